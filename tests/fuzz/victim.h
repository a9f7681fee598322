/* One live replica, for targets that attack it: a founded mesh with a member who lies, an honest
 * one and a reader; sessions with the first two; what it tells is checked.
 *
 * It is opened once. Each input finds its memory, its files and an application's connection as they
 * were then (tests/fuzz/arena.h, tests/fuzz/memdisk.h): opening it anew took most of an input. */
#ifndef P2P_TESTS_FUZZ_VICTIM_H
#define P2P_TESTS_FUZZ_VICTIM_H

#include "crdt/replica.h"
#include "crdt/schema.h"
#include "proto/limits.h"
#include "tests/fuzz/fuzz.h"

struct sqlite3;

#define VICTIM_TABLES 3 /* note, item, pair */
#define LIAR_PEER     1
#define HONEST_PEER   2

/* The victim founded the mesh; the liar has two replicas, and so has the honest member: what the
 * elder one wrote is merged before the first input. */
enum { VICTIM, LIAR, HONEST, READER, NODES };
enum { REPLICA_A, REPLICA_B, REPLICA_HONEST, REPLICA_READER, REPLICA_ELDER, REPLICAS };

struct victim {
	uint8_t secrets[NODES][64];
	struct p2p_signer signers[NODES];
	struct p2p_id replicas[REPLICAS], own_replica;
	struct p2p_schema_ref schemas[VICTIM_TABLES];
	struct p2p_table described[VICTIM_TABLES];
	struct p2p_hash mesh;
	struct fuzz_world world;
	struct p2p_replica *replica;
	struct sqlite3 *application;
	struct {
		bool up, busy, bad;
	} peers[3];
	struct p2p_id honest_replica; /* that the honest member comes with */
	uint64_t honest_acked;	      /* of its changes */
	bool honest_asked;	      /* for them */
	uint32_t honest_segment;      /* from this one on */
};

extern struct victim victim;

/* Once for all inputs: opens it; what is done until the save is there for each input. Closed
 * afterwards. */
void victim_init(void);
void victim_save(void);
void victim_deinit(void);
/* For each. */
void victim_open(void);
void victim_close(void);
/* Instead of the close, which says what was lost but takes its time: as a process that ends. */
void victim_leave(void);

_Noreturn void victim_broken(const char *what, int rc, const struct p2p_error *err);
void victim_must(const char *what, int rc, const struct p2p_error *err);
/* As an application beside; it may break its own constraints. */
void victim_sql(const char *text);
/* What is due now; after some time. */
void victim_step(void);
void victim_pass(uint64_t ms);
/* in NULL: an honest Hello. */
void victim_peer_up(p2p_sync_peer peer, size_t node, const struct p2p_id *id, struct fuzz_in *in);
void victim_peer_down(p2p_sync_peer peer);
/* A session that breaks the protocol is closed. */
void victim_receive_bytes(p2p_sync_peer peer, const void *data, size_t len);
void victim_receive(p2p_sync_peer peer, enum p2p_message_type type,
		    const ProtobufCMessage *message);

#endif
