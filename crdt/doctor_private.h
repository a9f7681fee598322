/* What crdt/doctor.c (tables) and crdt/doctor_file.c share. */
#ifndef P2P_CRDT_DOCTOR_PRIVATE_H
#define P2P_CRDT_DOCTOR_PRIVATE_H

#include "crdt/doctor.h"
#include "crdt/schema.h"

struct sqlite3;

struct p2p_doctor {
	struct sqlite3 *db;
	const char *path;
	int (*each)(void *ctx, const struct p2p_finding *finding);
	void *ctx;
	struct p2p_table *tables; /* owned, and what they own */
	size_t count, cap;
};

/* Tells one; format as sqlite3_snprintf's, with %w and %Q. */
int p2p_doctor_tell(struct p2p_doctor *doctor, const char *table, enum p2p_finding_level level,
		    const char *topic, const char *advice, const char *format, ...) P2P_MUST_CHECK;
/* One number of a query (format as above, %w quotes names); 0 when there is no row. */
int p2p_doctor_count(struct p2p_doctor *doctor, long long *out, const char *format,
		     ...) P2P_MUST_CHECK;
int p2p_doctor_file(struct p2p_doctor *doctor) P2P_MUST_CHECK;

#endif
