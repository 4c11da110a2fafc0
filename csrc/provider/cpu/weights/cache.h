/* The cache folder of packed weights, MRT_CACHE_DIR. Two kinds of entries:
 *   NAME.mrtw   packed bytes behind a page with a header; NAME is the hash of contents and format
 *   NAME.mrti   a symbolic link whose target names such a file; NAME is the hash of a place in a
 *               model file and the format
 * Files are written aside, synced and renamed, so a name never shows half a file; any number of
 * processes may use the folder at once. The least recently used files go when the folder is larger
 * than MRT_CACHE_LIMIT. Failures are logged, never fatal: the weights are packed in memory then. */
#ifndef MRT_PROVIDER_CPU_WEIGHTS_CACHE_H
#define MRT_PROVIDER_CPU_WEIGHTS_CACHE_H

#include "provider/cpu/weights/packed.h"

enum { MRT_CACHE_HEADER = 4096 }; /* bytes in front of the packed ones */

const char *mrt_cache_folder(void); /* NULL: none */

/* Maps the entry: *map + MRT_CACHE_HEADER are the packed bytes (what lies in front of them may not
 * be read). false: not there, or not what it should be
 * (then it is removed). populate: a run will read it. */
bool mrt_cache_open(mrt_weight_key key, size_t bytes, bool populate, void **map);
void mrt_cache_close(void *map, size_t bytes);
/* Reads an entry's packed bytes. */
bool mrt_cache_read(mrt_weight_key key, size_t bytes, void *dst);

/* Writes `file` (MRT_CACHE_HEADER free bytes, then the packed ones); fills in the header. */
void mrt_cache_write(mrt_weight_key key, void *file, size_t bytes);

/* What lies at a place: false if that is not known. */
bool mrt_cache_lookup(mrt_weight_key place, mrt_weight_key *key);
void mrt_cache_remember(mrt_weight_key place, mrt_weight_key key);

#endif
