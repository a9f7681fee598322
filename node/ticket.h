/* Tickets: an invitation as text. Pure: no clock, no files, no sockets.
 *
 *	"p2pt" base32( version u8 | mesh 32 | issuer 32 | secret 32 | role u8 | expires u32 (Unix
 *	seconds) | name: length u8, bytes | addresses: count u8, each family u8 (4 or 6), 4 or 16
 *	bytes, port u16 | checksum 5 )
 *
 * The checksum is the beginning of BLAKE2b-128 over all before it, so a typo is told from a ticket
 * that the mesh refuses. The mesh secret is never in it (decisions 30); the id of the invite is
 * derived from its secret. */
#ifndef P2P_NODE_TICKET_H
#define P2P_NODE_TICKET_H

#include <stdbool.h>
#include <stdint.h>

#include "proto/buf.h"
#include "proto/error.h"
#include "proto/ident.h"
#include "proto/limits.h"

#define P2P_TICKET_VERSION 1
/* Longest text with its NUL. */
#define P2P_TICKET_TEXT_MAX (4 + (P2P_TICKET_BYTES_MAX * 8 + 4) / 5 + 1)

struct p2p_ticket_address {
	uint8_t family;	   /* 4 or 6 */
	uint8_t bytes[16]; /* the first 4 for IPv4 */
	uint16_t port;	   /* not 0 */
};

struct p2p_ticket {
	struct p2p_hash mesh;
	struct p2p_key issuer;
	uint8_t secret[P2P_KEY_BYTES];
	uint8_t role;		     /* enum P2p__V1__Role */
	uint32_t expires_s;	     /* Unix */
	char name[P2P_NAME_MAX + 1]; /* file name of the database; "" or p2p_ticket_name_ok() */
	struct p2p_ticket_address addresses[P2P_TICKET_ADDRESSES_MAX];
	size_t address_count;
};

/* Id of the invite that a secret belongs to. */
void p2p_ticket_invite(struct p2p_id *out, const uint8_t secret[P2P_KEY_BYTES]);
/* A plain file name that may be made in the current directory: no slash, no leading dot or dash,
 * no control characters, 1 to P2P_NAME_MAX bytes. */
bool p2p_ticket_name_ok(const char *name);
/* text: P2P_TICKET_TEXT_MAX bytes. A name that is not ok is left out. */
void p2p_ticket_format(char *text, const struct p2p_ticket *ticket);
/* P2P_EINVAL with a text that says what kind of mistake it is: not a ticket at all, a foreign
 * letter, cut short, mistyped; P2P_ENEWER: of a later version. out untouched then. White space
 * and hyphens inside are skipped, case does not matter. */
int p2p_ticket_parse(struct p2p_ticket *out, const char *text,
		     struct p2p_error *err) P2P_MUST_CHECK;
void p2p_ticket_wipe(struct p2p_ticket *ticket);
/* "1.2.3.4:5" or "[::1]:5"; room for 64 bytes. */
void p2p_ticket_address_text(const struct p2p_ticket_address *address, char out[64]);

#endif
