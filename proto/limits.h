/* Every limit of the product, each with its unit, its arithmetic and its source.
 *
 * Nothing is allocated from a length that came from the wire, the disk or the application before
 * that length was checked against one of these. Change a limit here and nowhere else. */
#ifndef P2P_PROTO_LIMITS_H
#define P2P_PROTO_LIMITS_H

/* --- wire ------------------------------------------------------------------------------------ */

/* A frame on the wire: 2 bytes of length, then at most 65 535 sealed bytes (Noise, section 3). */
#define P2P_FRAME_HEADER_BYTES 2
#define P2P_FRAME_SEALED_MAX   65535
#define P2P_AEAD_TAG_BYTES     16
#define P2P_FRAME_PLAIN_MAX    (P2P_FRAME_SEALED_MAX - P2P_AEAD_TAG_BYTES) /* 65 519 */
/* A message is cut into fragments, so that a small one overtakes a big one (decisions 43). */
#define P2P_FRAGMENT_MAX (16 * 1024)
/* One message, after its fragments are put together (design 7). */
#define P2P_MESSAGE_MAX (1024 * 1024)
/* What unpacking one message may allocate: protobuf-c was measured to expand hostile input about
 * 100 times, so the arena is bounded at a small multiple of the wire size plus a floor. */
#define P2P_UNPACK_FLOOR_BYTES (64 * 1024)
#define P2P_UNPACK_FACTOR      8

/* --- handshake (design 7, decisions 31) ------------------------------------------------------- */
#define P2P_HANDSHAKE_BYTES_MAX	  4096
#define P2P_HANDSHAKE_TIMEOUT_MS  5000
#define P2P_HANDSHAKES_MAX	  64 /* at once, on one node */
#define P2P_HANDSHAKES_PER_IP_MAX 4  /* whose preface tag is not verified yet */
#define P2P_EPOCH_KEYS_MAX	  4
#define P2P_INVITE_KEYS_MAX	  64

#define P2P_VERSIONS_MAX 16 /* versions that one side may offer */
#define P2P_SOFTWARE_MAX 64 /* bytes of the name and version of a program */
/* Prefaces seen lately: a replayed one is from a stranger, and a stranger gets no byte. */
#define P2P_PREFACE_REPLAY_MAX 4096

/* --- session ---------------------------------------------------------------------------------- */
#define P2P_KEEPALIVE_MS      5000
#define P2P_DEAD_MS	      15000
#define P2P_SENDQ_BULK_MAX    (1024 * 1024) /* bytes waiting in one session, R58 */
#define P2P_SENDQ_SMALL_MAX   (1024 * 1024)
#define P2P_SENDQ_CONTROL_MAX (4 * 1024 * 1024)
#define P2P_BULK_UNSENT_MAX   (128 * 1024) /* handed to the kernel, TCP_NOTSENT_LOWAT */
#define P2P_LINK_CHUNK_MAX    (64 * 1024)  /* bytes that a link takes or hands up at once */
#define P2P_SEND_BATCH_BYTES  (32 * 1024)  /* frames joined into one write of a link */
#define P2P_CLOSE_DRAIN_MS    1000	   /* what was queued before an orderly close goes out */
#define P2P_CLOSE_TEXT_MAX    200	   /* bytes of the reason that a peer is told */
#define P2P_PROBE_MS	      1000	   /* an old session's time to answer (decisions 44) */
#define P2P_REKEY_FRAMES      65536	   /* at most 1 GiB of fragments under one key */
#define P2P_ADDRESS_TEXT_MAX  128	   /* bytes of an address for people, with its 0 */
#define P2P_LISTENERS_MAX     16
#define P2P_BACKOFF_MIN_MS    250
#define P2P_BACKOFF_MAX_MS    30000
#define P2P_PEERS_MAX	      256  /* live sessions of one node */
#define P2P_ADDRESSES_MAX     1024 /* entries of the address book */
#define P2P_NAME_MAX	      64   /* bytes of a name for people */

/* --- changesets (decisions 6, 8, 39, 46) ------------------------------------------------------ */
#define P2P_SEGMENT_BYTES	(64 * 1024)
#define P2P_SEGMENTS_MAX	16384
#define P2P_CHANGESET_BYTES_MAX (1024ull * 1024 * 1024) /* 16 384 segments of 64 KiB */
#define P2P_HEADER_BYTES_MAX	(768 * 1024) /* 16 384 hashes of 32 bytes, and the dictionaries */
#define P2P_DEPS_MAX		4096
#define P2P_TABLES_MAX		1024
#define P2P_NAMED_MAX		64   /* columns that are named at once (--ref, --counter) */
#define P2P_COLUMNS_MAX		2000 /* SQLITE_MAX_COLUMN of a default build */
#define P2P_SLOTS_MAX		(4 * P2P_COLUMNS_MAX) /* dropped columns keep theirs */
#define P2P_KEY_COLUMNS_MAX	64
#define P2P_REFERENCE_DEPTH_MAX 16 /* rows named by rows named by rows */
#define P2P_ORIGINS_MAX		4096
#define P2P_VALUE_BYTES_MAX	(256 * 1024 * 1024)
#define P2P_RECORD_BYTES_MAX	(512 * 1024 * 1024)
/* Rows of one table that wait, and are looked at when a value was freed: about 10 us each, whenever
 * something is frozen. Beyond, only those that share a value with a new row give way. */
#define P2P_YIELD_ROWS_MAX 100000
/* What lost in a merge is listed: so many entries, and for so long. */
#define P2P_CONFLICTS_MAX	  50000
#define P2P_CONFLICT_AGE_MS	  (90ll * 24 * 3600 * 1000)
#define P2P_REPLICAS_MAX	  4096
#define P2P_REPLICAS_PER_NODE_MAX 16
#define P2P_REPLICA_DRAWS_MAX	  8 /* of random bytes, until they give an id that is new */
#define P2P_BATCH_ROWS_MAX	  1000
#define P2P_BATCH_BYTES_MAX	  (256 * 1024)
#define P2P_STAGED_COUNT_MAX	  64 /* out-of-order changesets kept for one replica */
#define P2P_STAGED_BYTES_MAX	  (1024 * 1024)
#define P2P_NODE_STAGED_BYTES_MAX (1024ull * 1024 * 1024)
#define P2P_CREDIT_BYTES	  (2 * 1024 * 1024) /* granted to a fresh session */
#define P2P_GROUP_CHANGESETS_MAX  65536

/* --- membership and schema records (decisions 27, 28, 46) ------------------------------------- */
#define P2P_RECORD_BODY_MAX    (512 * 1024) /* one signed record; a CREATE text can be long */
#define P2P_RECORD_RAW_MAX     (P2P_RECORD_BODY_MAX + 1024) /* with signer and signature */
#define P2P_RECORD_PARENTS_MAX 256			    /* heads that one record names */
#define P2P_RECORDS_MAX	       16384			    /* of a mesh */
#define P2P_RECORDS_BYTES_MAX  (64 * 1024 * 1024)	    /* of a mesh, as they travel */
/* Of both: a member of depth 1 with all whom it admitted, and whom these admitted, has at most a
 * quarter; each depth below half of the one above it, down to a 64th (256 records, 1 MiB); all
 * signers together that are no members an eighth. The founder has no share of its own. */
#define P2P_RECORDS_SHARE_SHIFT	    1 /* plus the depth */
#define P2P_RECORDS_SHARE_SHIFT_MAX 6
#define P2P_RECORDS_STRANGERS_SHIFT 3

/* --- clocks (decisions 42) -------------------------------------------------------------------- */
#define P2P_CLOCK_AHEAD_MAX_MS (5 * 60 * 1000)
/* Causal lengths grow by one per delete or re-insert, so by at most two in one changeset. The
 * greatest that a record may have is this, and two for each tick of its clock (p2p_hlc_lives()):
 * whoever comes after one who went to the limit has a later clock, and so has room. */
#define P2P_CAUSAL_LENGTH_FLOOR (1ull << 20)
#define P2P_CAUSAL_LENGTH_MAX	(1ull << 63) /* with any clock */

/* --- discovery (decisions 37) ----------------------------------------------------------------- */
#define P2P_BEACON_BYTES      256
#define P2P_BEACON_REPLAY_MAX 4096
#define P2P_SEEDS_MAX	      64
/* One fixed port and group for all meshes: IPv4 in the local scope of RFC 2365, IPv6 link-local.
 * Shared by all nodes of a host, so nothing is ever sent to the port by unicast. */
#define P2P_DISCOVERY_PORT	 47473
#define P2P_DISCOVERY_GROUP4	 "239.255.74.73"
#define P2P_DISCOVERY_GROUP6	 "ff02::7032:706e"
#define P2P_INTERFACES_MAX	 64
#define P2P_INTERFACES_LIST_MS	 5000 /* listed again that often */
#define P2P_BEACON_MIN_MS	 5000 /* interval: members / 10 s, clamped to these two */
#define P2P_BEACON_MAX_MS	 60000
#define P2P_BEACON_SOONEST_MS	 500 /* between two beacons, whatever asks for one */
#define P2P_BEACON_ADDRESSES_MAX 4
#define P2P_DATAGRAMS_WAKEUP_MAX 64 /* read in one wake-up of the loop */
/* Datagrams looked at in a second; trying all 4 + 64 keys on one takes about 0.1 ms. */
#define P2P_DATAGRAMS_RATE	  1000
#define P2P_DATAGRAMS_HOST_RATE	  250	 /* of one address: 50 nodes can live on 127.0.0.1 */
#define P2P_DIALS_MAX		  16	 /* at once; unproven addresses get at most half of them */
#define P2P_DIALS_RATE		  50	 /* new ones in a second */
#define P2P_ADDRESSES_PINNED_MAX  256	 /* seeds and addresses of tickets: never evicted */
#define P2P_ADDRESSES_CLAIMED_MAX 256	 /* told by others, not heard or reached by ourselves */
#define P2P_ADDRESSES_HOST_MAX	  64	 /* unproven ports of one address */
#define P2P_SEED_ADDRESSES_MAX	  8	 /* addresses that one name resolves to */
#define P2P_RESOLVES_MAX	  4	 /* names looked up at once */
#define P2P_RESOLVE_AGAIN_MS	  60000	 /* a name is looked up again that often */
#define P2P_ADDRESS_PROBE_MS	  300000 /* an address that failed long is tried, at most */
#define P2P_ADDRESS_FORGET_MS	  600000 /* an unproven one that was not heard of since */
#define P2P_SEED_TEXT_MAX	  264	 /* a name of 253 bytes, brackets, scope, colon, port */

/* --- node ------------------------------------------------------------------------------------- */
#define P2P_TICKET_BYTES_MAX	 512 /* binary; the text is 8/5 of it */
#define P2P_TICKET_ADDRESSES_MAX 6
#define P2P_CONTROL_LINE_MAX	 (16 * 1024)	    /* one request on the control socket */
#define P2P_CONTROL_ANSWER_MAX	 (16 * 1024 * 1024) /* status of 1 024 tables and 4 096 peers */
#define P2P_CONTROL_CLIENTS_MAX	 32
#define P2P_GOSSIP_BYTES	 (256 * 1024) /* of records in one message (decisions 29) */
#define P2P_SETTLE_TIMEOUT_MS	 30000	      /* from session to agreed membership */
#define P2P_WATCH_RECHECK_MAX_MS 64   /* re-checks 0, 1, 2..64 ms after a file event (design 6) */
#define P2P_WATCH_POLL_MS	 1000 /* the safety poll */
#define P2P_NOTES_MAX		 256  /* peers whose last error is remembered */

_Static_assert(P2P_FRAGMENT_MAX < P2P_FRAME_PLAIN_MAX, "a fragment fits into a frame");
_Static_assert(P2P_SEGMENT_BYTES * 2 < P2P_MESSAGE_MAX, "a segment fits into a message");
_Static_assert(P2P_HEADER_BYTES_MAX + P2P_SEGMENT_BYTES * 2 < P2P_MESSAGE_MAX,
	       "the greatest header and a segment fit into a message");
_Static_assert(P2P_RECORD_RAW_MAX <= P2P_RECORDS_BYTES_MAX >> P2P_RECORDS_SHARE_SHIFT_MAX,
	       "the greatest record fits into the smallest share");
_Static_assert((unsigned long long)P2P_SEGMENT_BYTES *P2P_SEGMENTS_MAX == P2P_CHANGESET_BYTES_MAX,
	       "segments cover the greatest changeset");

#endif
