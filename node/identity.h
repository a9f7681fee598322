/* The state directory: its mode, small files written atomically, and the keys of a node.
 *
 * Files: identity (keys), secret (of the mesh), ticket (while joining), log.db (crdt), control
 * (socket). The directory is 0700, files are 0600. */
#ifndef P2P_NODE_IDENTITY_H
#define P2P_NODE_IDENTITY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "proto/env.h"
#include "proto/error.h"
#include "proto/ident.h"

/* Secrets: wiped by p2p_keys_wipe(). */
struct p2p_keys {
	uint8_t sign_secret[64]; /* Ed25519, libsodium form */
	struct p2p_key node;	 /* its public key */
	uint8_t wrap_secret[P2P_KEY_BYTES];
	struct p2p_key wrap; /* X25519, for sealed boxes */
	uint8_t noise_secret[P2P_KEY_BYTES];
	struct p2p_key noise; /* X25519, Noise static */
};

void p2p_keys_wipe(struct p2p_keys *keys);

/* Opens the directory, making it when create; makes it 0700 if it is not. Returns a descriptor in
 * *out_fd, which holds the directory for one node as long as it is open. P2P_ENOENT: missing and
 * not create; P2P_ELOCKED; P2P_EREADONLY, P2P_EREFUSED (somebody else's, or no directory), P2P_EIO,
 * P2P_EFULL. */
int p2p_state_open(const char *dir, bool create, int *out_fd, struct p2p_error *err) P2P_MUST_CHECK;
/* Replaces a file so that a crash leaves the old or the new one, durably. P2P_EIO, P2P_EFULL,
 * P2P_EREADONLY. */
int p2p_state_write(int dir_fd, const char *name, const void *data, size_t len,
		    struct p2p_error *err) P2P_MUST_CHECK;
/* P2P_ENOENT; P2P_ETOOBIG over max; P2P_EIO. */
int p2p_state_read(int dir_fd, const char *name, void *out, size_t max,
		   size_t *out_len) P2P_MUST_CHECK;
/* Removes a file, durably; one that is not there is no error. */
void p2p_state_remove(int dir_fd, const char *name);

/* Reads the keys of this node; makes them when there are none and env is given. P2P_ENOENT: none,
 * and env NULL; P2P_ECORRUPT: the file is not what we write; as p2p_state_write() otherwise. */
int p2p_keys_load(int dir_fd, const struct p2p_env *env, struct p2p_keys *out,
		  struct p2p_error *err) P2P_MUST_CHECK;
/* The mesh secret. P2P_ENOENT, P2P_ECORRUPT. */
int p2p_secret_load(int dir_fd, uint8_t out[P2P_KEY_BYTES], struct p2p_error *err) P2P_MUST_CHECK;
int p2p_secret_store(int dir_fd, const uint8_t secret[P2P_KEY_BYTES],
		     struct p2p_error *err) P2P_MUST_CHECK;

#endif
