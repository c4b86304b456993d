#!/usr/bin/env python3
"""Boots a Debian root with our packages in a container of systemd-nspawn and lives through a day of an operator: install, first
start, a user without and with access, a daemon killed under a writer, both endpoints, a reload, a second store, stop and start.
Each step says what it saw; the counts go to a file. Needs root. Leaves nothing behind.

usage: boottest.py --base TARBALL --packages DIR --out FILE --commit COMMIT
"""
import argparse
import collections
import glob
import http.client
import json
import os
import re
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time

PATIENCE_S = 120
RECORDS = 120
KILLS = 3
KILLED_AT = [RECORDS * (i + 1) // (KILLS + 1) for i in range(KILLS)]
USER = 'reader'
DIMENSIONS = 8

# Runs in the container as the user: puts numbered records and says each one that was acknowledged. A put that was not is tried
# again and counted: whoever opens a client at the moment of a kill is told that the daemon is unavailable.
WRITER = f'''
i=0
while [ $i -lt {RECORDS} ]; do
  tries=0
  until warmtierctl --timeout 60000 put "record:$i" --embedding /tmp/embedding --content "content of $i" >/dev/null; do
    tries=$((tries + 1))
    [ $tries -lt 10 ] || exit 1
  done
  echo $i
  i=$((i + 1))
done
'''
READER = f'''
i=0
while [ $i -lt {RECORDS} ]; do
  [ "$(warmtierctl get "record:$i" --content-out -)" = "content of $i" ] && echo $i
  i=$((i + 1))
done
'''


class Failed(Exception):
    pass


def expect(holds, what):
    if not holds:
        raise Failed(what)


class UnixHttp(http.client.HTTPConnection):
    def __init__(self, path):
        super().__init__('localhost', timeout=PATIENCE_S)
        self.path = path

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self.path)


class Container:
    def __init__(self, directory, root):
        self.root = root
        self.notify = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        notify_path = os.path.join(directory, 'notify')
        self.notify.bind(notify_path)
        self.console = open(os.path.join(directory, 'console'), 'w+', encoding='utf-8', errors='replace')
        self.leader = None
        self.process = subprocess.Popen(
            ['systemd-nspawn', '--quiet', '--register=no', '--keep-unit', '--boot', '--notify-ready=yes', '--console=pipe',
             '--private-network', '--machine=warmtier-boottest', '--system-call-filter=@aio', '-D', root],
            stdin=subprocess.DEVNULL, stdout=self.console, stderr=self.console, env=dict(os.environ, NOTIFY_SOCKET=notify_path))
        pidfd = os.pidfd_open(self.process.pid)
        try:
            deadline = time.monotonic() + PATIENCE_S
            ready = False
            while not ready:
                looked, _, _ = select.select([self.notify, pidfd], [], [], max(0, deadline - time.monotonic()))
                if self.notify not in looked:
                    raise Failed('the container did not come up:\n' + self.text())
                said = self.notify.recv(4096).decode()
                if match := re.search(r'X_NSPAWN_LEADER_PID=(\d+)', said):
                    self.leader = int(match[1])
                ready = bool(re.search(r'^READY=1$', said, flags=re.M))
        finally:
            os.close(pidfd)
        expect(self.leader is not None, 'systemd-nspawn did not say which process leads the container')

    def text(self):
        self.console.flush()
        self.console.seek(0)
        return self.console.read()

    def command(self, *arguments, user=None):
        inside = ['runuser', '-u', user, '--', *arguments] if user else list(arguments)
        return ['nsenter', '-t', str(self.leader), '--mount', '--uts', '--ipc', '--net', '--pid', '--cgroup', '--root', '--wd',
                'env', '-i', 'PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin', 'LC_ALL=C.UTF-8', *inside]

    def run(self, *arguments, user=None, stdin=None):
        return subprocess.run(self.command(*arguments, user=user), input=stdin, capture_output=True, text=True, timeout=PATIENCE_S)

    def must(self, *arguments, user=None, stdin=None):
        answer = self.run(*arguments, user=user, stdin=stdin)
        expect(answer.returncode == 0, f'{" ".join(arguments)}: {answer.returncode}\n{answer.stdout}{answer.stderr}')
        return answer.stdout

    def show(self, unit, name):
        return self.must('systemctl', 'show', '--property', name, '--value', unit).strip()

    def get(self, path, socket_path='/run/warmtier/metrics'):
        connection = UnixHttp(f'/proc/{self.leader}/root{socket_path}')
        connection.request('GET', path)
        answer = connection.getresponse()
        body = answer.read().decode()
        connection.close()
        expect(answer.status == 200, f'GET {path}: {answer.status} {body}')
        return body

    def journal(self, unit):
        text = self.must('journalctl', '--unit', unit, '--output', 'json', '--no-pager')
        return [json.loads(line) for line in text.splitlines() if line.startswith('{')]

    def end(self):
        if self.process.poll() is None and self.leader is not None:
            os.kill(self.leader, signal.SIGRTMIN + 4)  # what systemd takes as "power off"
            try:
                self.process.wait(PATIENCE_S)
            except subprocess.TimeoutExpired:
                pass
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        self.console.close()
        self.notify.close()
        return self.process.returncode


def write_in(root, path, text):
    name = os.path.join(root, path.lstrip('/'))
    os.makedirs(os.path.dirname(name), exist_ok=True)
    with open(name, 'w', encoding='utf-8') as file:
        file.write(text)


def say(what):
    print(f'  {what}', flush=True)


def live_through(machine, packages, counts):
    for package in packages:
        shutil.copy(package, os.path.join(machine.root, 'var/cache'))
    names = ['/var/cache/' + os.path.basename(package) for package in packages]
    say(machine.must('dpkg', '--install', *names).strip().splitlines()[-1])
    for unit in ('warmtierd.service', 'warmtierd.socket', 'warmtierd-metrics.socket'):
        state = machine.run('systemctl', 'is-active', unit).stdout.strip()
        expect(state == 'active', f'{unit} is {state} after the installation:\n' + machine.run('journalctl', '-u', unit).stdout)
    say('installed and serving: ' + machine.show('warmtierd.service', 'StatusText'))
    expect(machine.must('stat', '-c', '%U %G %a', '/var/lib/warmtier/main').split() == ['warmtier', 'warmtier', '700'],
           'the store is not the daemon\'s alone')
    dimensions = json.loads(machine.must('warmtierctl', 'status', '--json', user='warmtier'))['dimensions']
    machine.must('sh', '-c', f'head -c {dimensions * 4} /dev/zero >/tmp/embedding && chmod 644 /tmp/embedding')

    machine.must('useradd', '--create-home', USER)
    answer = machine.run('warmtierctl', '--timeout', '500', 'status', user=USER)
    expect(answer.returncode != 0, 'a user outside of the group has access')
    say('outside of the group: ' + answer.stderr.strip())
    machine.must('usermod', '-aG', 'warmtier', USER)

    writer = subprocess.Popen(machine.command('sh', '-c', WRITER, user=USER), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    acknowledged = []
    for line in writer.stdout:
        acknowledged.append(int(line))
        if len(acknowledged) in KILLED_AT:
            machine.must('systemctl', 'kill', '--kill-whom=main', '--signal=KILL', 'warmtierd.service')
    complaints = writer.stderr.read().splitlines()
    expect(writer.wait() == 0 and acknowledged == list(range(RECORDS)), f'the writer ended after {len(acknowledged)} puts: {complaints}')
    expect(len(complaints) <= KILLS, f'{KILLS} kills cannot refuse {len(complaints)} puts: {complaints}')
    for complaint in complaints:
        say('tried again: ' + complaint)
    counts['puts_tried_again'] = len(complaints)
    restarts = int(machine.show('warmtierd.service', 'NRestarts'))
    expect(restarts == KILLS, f'{KILLS} kills and {restarts} restarts')
    found = machine.must('sh', '-c', READER, user=USER).split()
    expect(found == [str(i) for i in range(RECORDS)], f'{RECORDS} were acknowledged, {len(found)} are there')
    say(f'{RECORDS} puts of a user in the group under {KILLS} kills of the daemon: all there')
    counts.update(records_put=RECORDS, daemons_killed=KILLS, restarts=restarts, records_found=len(found))

    numbers = json.loads(machine.get('/api/v1/metrics/storage'))
    expect(numbers['memory_count'] == RECORDS and numbers['content_operations'] >= 0, f'the numbers say {numbers}')
    text = machine.get('/metrics')
    expect(f'\nwarmtier_records {RECORDS}\n' in text, text)
    if shutil.which('promtool'):
        checked = subprocess.run(['promtool', 'check', 'metrics'], input=text, capture_output=True, text=True, check=False)
        expect(checked.returncode == 0 and checked.stdout + checked.stderr == '', checked.stdout + checked.stderr)
        say('promtool has nothing to say about /metrics')
        counts['promtool'] = 'clean'
    counts['metrics'] = len(re.findall(r'^# TYPE', text, flags=re.M))
    say(f'both endpoints answer, with {counts["metrics"]} numbers')

    machine.must('systemctl', 'reload', 'warmtierd.service')
    expect(any('settings read again' in entry['MESSAGE'] for entry in machine.journal('warmtierd.service')), 'a reload says nothing')

    write_in(machine.root, '/etc/warmtier/small.conf', f'[store]\ndimensions = {DIMENSIONS}\ncapacity = 4096\n[access.groups]\nwarmtier = "write"\n')
    machine.must('systemctl', 'start', 'warmtierd@small.socket')
    machine.must('warmtierctl', '--socket', '/run/warmtier/small/sock', '--timeout', '60000', 'put', 'one', '--embedding', '-',
                 '--content', 'of another store', user=USER, stdin=json.dumps([0.5] * DIMENSIONS))
    expect(machine.run('systemctl', 'is-active', 'warmtierd@small.service').stdout.strip() == 'active', 'the socket started no second store')
    say(f'a second store of {DIMENSIONS} dimensions, started by its first client')

    machine.must('systemctl', 'stop', 'warmtierd.service', 'warmtierd@small.service')
    expect(machine.show('warmtierd.service', 'Result') == 'success', 'the stop did not succeed')
    machine.must('systemctl', 'start', 'warmtierd.service')
    found = machine.must('sh', '-c', READER, user=USER).split()
    expect(len(found) == RECORDS, f'after a stop and a start {len(found)} of {RECORDS} are there')
    say('stopped in order, started again: all there')

    entries = machine.journal('warmtierd.service')
    ours = [entry for entry in entries if entry.get('_COMM') == 'warmtierd']
    for part, priority in (('made a new store in', '5'), ('serving ', '6'), ('stopping: signal 15', '6'), ('stopped; everything is on the device', '6')):
        expect(any(part in entry['MESSAGE'] and entry['PRIORITY'] == priority for entry in ours),
               f'no line "{part}" of priority {priority} in the journal:\n' + '\n'.join(entry['MESSAGE'] for entry in entries))
    expect(any('code=killed' in entry['MESSAGE'] for entry in entries), 'the journal does not say that the daemon was killed')
    expect(all(entry['PRIORITY'] >= '4' for entry in ours), [entry['MESSAGE'] for entry in ours if entry['PRIORITY'] < '4'])
    counts['journal_lines'] = len(ours)
    said = collections.Counter(entry['MESSAGE'] for entry in ours)
    say(f'the journal has {len(ours)} lines of the daemon:')
    for message, times in said.items():
        say(f'    {message}' + (f'  ({times} times)' if times > 1 else ''))

    machine.must('dpkg', '--remove', 'warmtierd')
    expect(machine.run('systemctl', 'is-active', 'warmtierd.service').stdout.strip() != 'active', 'a removed daemon runs')
    expect(os.path.exists(os.path.join(machine.root, 'var/lib/warmtier/main/warm.tier')), 'removing the package took the store')
    say('removed; the store stays')


def main():
    parser = argparse.ArgumentParser()
    for name in ('base', 'packages', 'out', 'commit'):
        parser.add_argument('--' + name, required=True)
    arguments = parser.parse_args()
    packages = [path for path in sorted(glob.glob(os.path.join(arguments.packages, '*.deb'))) if '-dbgsym_' not in path and '-dev_' not in path]
    expect(len(packages) == 2, f'two packages are wanted, found {packages}')
    begun = time.monotonic()
    directory = tempfile.mkdtemp(prefix='warmtier-boottest.')
    machine = None
    counts = {'commit': arguments.commit}
    try:
        root = os.path.join(directory, 'root')
        os.mkdir(root)
        subprocess.run(['tar', '--zstd', '-xf', arguments.base, '-C', root], check=True)
        machine = Container(directory, root)
        booted = time.monotonic()
        say(f'booted in {booted - begun:.1f} s: ' + machine.must('systemctl', '--version').splitlines()[0])
        live_through(machine, packages, counts)
        code = machine.end()
        expect(code == 0, f'the container ended with {code}:\n{machine.text() if not machine.console.closed else ""}')
    except Failed as failure:
        print(f'boottest: {failure}', file=sys.stderr)
        return 1
    finally:
        if machine is not None:
            machine.end() if machine.process.poll() is None else None
        shutil.rmtree(directory, ignore_errors=True)
    counts['seconds'] = round(time.monotonic() - begun, 1)
    with open(arguments.out, 'w', encoding='utf-8') as file:
        file.write(json.dumps(counts, indent=2) + '\n')
    print(f'{arguments.out}: {json.dumps(counts)}')
    return 0


if __name__ == '__main__':
    sys.exit(main())
