"""A store in a directory of its own and the daemon on it, for tests that are written in Python."""
import os
import select
import shutil
import signal
import socket
import subprocess
import tempfile

PATIENCE_S = 60


class Daemon:
    """Ready when the constructor returns; killed and removed by close() or at the end of `with`."""

    def __init__(self, program, dimensions=None, capacity=None, store=None, configuration=None):
        self.directory = tempfile.mkdtemp(prefix='warmtier-test.')
        self.socket = os.path.join(self.directory, 'sock')
        self.command = [program, '--store', store or os.path.join(self.directory, 'store'), '--socket', self.socket]
        if dimensions is not None:
            self.command += ['--dimensions', str(dimensions)]
        if capacity is not None:
            self.command += ['--capacity', str(capacity)]
        if configuration is not None:
            path = os.path.join(self.directory, 'warmtierd.conf')
            with open(path, 'w', encoding='utf-8') as file:
                file.write(configuration)
            self.command += ['--config', path]
        self.log = open(os.path.join(self.directory, 'log'), 'w+', encoding='utf-8')
        self.process = None
        try:
            self.start()
        except BaseException:
            self.close()
            raise

    def start(self):
        notify_path = os.path.join(self.directory, 'notify')
        if os.path.exists(notify_path):
            os.unlink(notify_path)
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notify:
            notify.bind(notify_path)
            self.process = subprocess.Popen(self.command, stdout=self.log, stderr=self.log,
                                            env=dict(os.environ, NOTIFY_SOCKET=notify_path))
            pidfd = os.pidfd_open(self.process.pid)
            try:
                while True:
                    ready, _, _ = select.select([notify, pidfd], [], [], PATIENCE_S)
                    if notify in ready:
                        if b'READY=1' in notify.recv(4096):
                            return
                        continue
                    self.log.seek(0)
                    raise RuntimeError('the daemon did not become ready: ' + self.log.read())
            finally:
                os.close(pidfd)

    def stop(self):
        """In order; its exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(PATIENCE_S)

    def kill(self):
        self.process.kill()
        self.process.wait(PATIENCE_S)

    def environment(self):
        return dict(os.environ, WARMTIER_SOCKET=self.socket)

    def close(self):
        if self.process is not None and self.process.poll() is None:
            self.kill()
        self.log.close()
        shutil.rmtree(self.directory, ignore_errors=True)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()
