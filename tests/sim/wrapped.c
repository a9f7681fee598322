/* The product's own functions that the checks listen to: each goes on to the real one. */
#include "crdt/sync.h"
#include "tests/sim/sim.h"

/* The linker's names (--wrap). */
int __real_p2p_sync_new(const struct p2p_sync_config *config, struct p2p_sync **out);
int __wrap_p2p_sync_new(const struct p2p_sync_config *config, struct p2p_sync **out);
int __real_p2p_sync_set_merged(struct p2p_sync *sync, const struct p2p_vv_entry *entry);
int __wrap_p2p_sync_set_merged(struct p2p_sync *sync, const struct p2p_vv_entry *entry);
bool __real_p2p_sync_durable(struct p2p_sync *sync);
bool __wrap_p2p_sync_durable(struct p2p_sync *sync);

/* The files were read anew, and may have less. */
int __wrap_p2p_sync_new(const struct p2p_sync_config *config, struct p2p_sync **out)
{
	sim_check_engine(sim_host_current, true);
	return __real_p2p_sync_new(config, out);
}

int __wrap_p2p_sync_set_merged(struct p2p_sync *sync, const struct p2p_vv_entry *entry)
{
	sim_check_set_merged(sim_host_current, entry);
	return __real_p2p_sync_set_merged(sync, entry);
}

/* For the first time when the engine was told of all that the files have. */
bool __wrap_p2p_sync_durable(struct p2p_sync *sync)
{
	sim_check_engine(sim_host_current, false);
	return __real_p2p_sync_durable(sync);
}
