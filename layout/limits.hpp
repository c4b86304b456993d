// Every maximum that shared bytes or loops over them obey.
#pragma once

#include <cstddef>
#include <cstdint>

#include "warmtier/warmtier.h"

namespace warmtier::layout {

constexpr size_t kCacheLineBytes = 64;
constexpr size_t kPageBytes = 4096;

constexpr uint32_t kIdBytesMax = WARM_ID_BYTES_MAX;
constexpr uint32_t kDimensionsMax = WARM_DIMENSIONS_MAX;
constexpr uint64_t kContentBytesMax = WARM_CONTENT_BYTES_MAX;
constexpr uint64_t kContentCapBytesDefault = uint64_t{64} << 20;
constexpr uint32_t kViewsMax = WARM_VIEWS_MAX;

constexpr uint64_t kCapacityMax = 0xFFFF'FFFEU;          // slot + 1 must fit 32 bits, and 0 means "none"
constexpr uint32_t kSlotsPerChunk = 1024;
constexpr uint64_t kSequenceBits = 48;
constexpr uint64_t kSequenceEnd = uint64_t{1} << kSequenceBits;
constexpr uint64_t kSequenceReserve = uint64_t{1} << 32;  // refused so far before the end: recovery needs numbers
constexpr uint64_t kSequenceMax = kSequenceEnd - kSequenceReserve;
constexpr uint64_t kSegmentNumberEnd = uint64_t{1} << 33;
constexpr uint64_t kRequestNumberMax = ~uint64_t{0} - (uint64_t{1} << 32);

constexpr uint64_t kSegmentBytesDefault = uint64_t{64} << 20;
constexpr uint64_t kSegmentBytesMin = uint64_t{64} << 10;
constexpr uint64_t kSegmentBytesMax = uint64_t{64} << 20;  // 23 bits of 8-byte units; one large record may have more

constexpr uint32_t kLanesMin = 64;
constexpr uint32_t kLanesPerCpu = 4;
constexpr uint32_t kLanesMax = 1024;
constexpr uint32_t kLaneEntries = 8;
constexpr uint32_t kLanePayloadBytes = 65536;  // id + embedding + content; more travels by the socket
constexpr uint32_t kSessionsPerChannel = 1024;
constexpr uint32_t kCellsPerSession = 256;
constexpr uint32_t kChannelsMax = 4096;
constexpr uint32_t kTouchEntries = 1024;

constexpr uint32_t kIndexHomesLog2Min = 12;
constexpr uint32_t kIndexHomesLog2Max = 30;
constexpr uint32_t kIndexCells = 7;
constexpr uint32_t kIndexDistanceMax = 63;
constexpr uint32_t kIndexTailBuckets = kIndexDistanceMax;
constexpr uint32_t kIndexLoadNumerator = 7;  // doubling starts at this load of the cells
constexpr uint32_t kIndexLoadDenominator = 8;

constexpr uint32_t kFeedEntriesLog2 = 16;
constexpr uint32_t kFeedIdsLog2 = 22;
constexpr uint32_t kFeedIdUnitBytes = 8;  // an id in the feed begins on such a boundary
constexpr uint32_t kGraceBatchSlots = 4096;
constexpr uint32_t kGraceCellsPerStep = 16384;  // some 20 us; requests are served between steps

// Counters whose low half a futex or a reader compares start just below its wrap, so that every run sees it.
constexpr uint64_t kWrapStart = (uint64_t{1} << 32) - 4;

constexpr uint32_t kReadRoundsBeforePause = 64;
constexpr uint32_t kSegmentRounds = 8;

constexpr uint32_t kRecallSpare = 16;   // candidates beyond what is wanted, and an eighth of it
constexpr uint32_t kRecallPasses = 2;   // over all columns, where changes were too many to be followed
constexpr uint32_t kRecallRounds = 64;  // of asking the feed what became of candidates

}  // namespace warmtier::layout
