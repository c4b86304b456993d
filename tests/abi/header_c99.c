/* The public header is C99 and needs nothing before it. */
#include "warmtier/warmtier.h"

int header_c99(void);
int header_c99(void) {
  warm_options options = WARM_OPTIONS_INIT;
  warm_info info = WARM_INFO_INIT;
  warm_memory memory = WARM_MEMORY_INIT;
  warm_view view = WARM_VIEW_INIT;
  warm_filter filter = WARM_FILTER_INIT;
  warm_copy copy = WARM_COPY_INIT;
  warm_scalars scalars = WARM_SCALARS_INIT;
  warm_chunk chunk = WARM_CHUNK_INIT;
  warm_stats stats = WARM_STATS_INIT;
  return options.struct_bytes == sizeof options && info.struct_bytes == sizeof info && memory.struct_bytes == sizeof memory &&
         view.struct_bytes == sizeof view && filter.struct_bytes == sizeof filter && copy.struct_bytes == sizeof copy &&
         scalars.struct_bytes == sizeof scalars && chunk.struct_bytes == sizeof chunk && stats.struct_bytes == sizeof stats;
}
