/* The registers of the software model of tiles (tile.h). Every thread pays for them that the
 * library has seen, also where there are real tiles: hence one set. */
#define MRT_AMX_MODEL
#include "provider/cpu/amx/tile.h"

_Thread_local uint8_t mrt_amx_tiles[8][16][64];
