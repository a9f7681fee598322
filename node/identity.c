/* State directory and keys; see identity.h. */
#include "node/identity.h"

#include <errno.h>
#include <fcntl.h>
#include <sodium.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "proto/check.h"

#define IDENTITY_HEAD "p2pnode identity 1\n"
#define SECRET_HEAD   "p2pnode secret 1\n"
#define FILE_MAX      1024

static int errno_code(int error)
{
	switch (error) {
	case ENOENT:
		return P2P_ENOENT;
	case EACCES:
	case EPERM:
	case EROFS:
		return P2P_EREADONLY;
	case ENOSPC:
	case EDQUOT:
		return P2P_EFULL;
	case ENOTDIR:
	case ELOOP:
		return P2P_EREFUSED;
	default:
		return P2P_EIO;
	}
}

static int system_error(struct p2p_error *err, const char *what, const char *name)
{
	int error = errno;

	return p2p_error_set(err, errno_code(error), "%s '%s': %s", what, name, strerror(error));
}

void p2p_keys_wipe(struct p2p_keys *keys)
{
	sodium_memzero(keys, sizeof(*keys));
}

int p2p_state_open(const char *dir, bool create, int *out_fd, struct p2p_error *err)
{
	struct stat st;
	int fd, rc = 0;

	if (create && mkdir(dir, 0700) != 0 && errno != EEXIST)
		return system_error(err, "make state directory", dir);
	fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0)
		return system_error(err, "open state directory", dir);
	if (fstat(fd, &st) != 0)
		rc = system_error(err, "state directory", dir);
	else if (st.st_uid != geteuid())
		rc = p2p_error_set(err, P2P_EREFUSED,
				   "state directory '%s' belongs to user %lu: it holds the node's "
				   "secret key",
				   dir, (unsigned long)st.st_uid);
	else if (flock(fd, LOCK_EX | LOCK_NB) != 0)
		rc = p2p_error_set(err, P2P_ELOCKED,
				   "state directory '%s' is in use by a node of another database",
				   dir);
	else if ((st.st_mode & 077) && fchmod(fd, 0700) != 0)
		rc = system_error(err, "make private: state directory", dir);
	if (rc) {
		(void)close(fd); /* nothing was written */
		return rc;
	}
	*out_fd = fd;
	return 0;
}

static int write_all(int fd, const uint8_t *data, size_t len)
{
	while (len) {
		ssize_t done = write(fd, data, len);

		if (done < 0 && errno == EINTR)
			continue;
		if (done <= 0)
			return -1;
		data += done;
		len -= (size_t)done;
	}
	return 0;
}

int p2p_state_write(int dir_fd, const char *name, const void *data, size_t len,
		    struct p2p_error *err)
{
	char temp[64];
	int fd, rc = 0;

	p2p_require(strlen(name) + sizeof(".new") <= sizeof(temp));
	(void)snprintf(temp, sizeof(temp), "%s.new", name);
	(void)unlinkat(dir_fd, temp, 0); /* of a crash before; the directory is ours alone */
	fd = openat(dir_fd, temp, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (fd < 0)
		return system_error(err, "write", name);
	if (write_all(fd, data, len) != 0 || fsync(fd) != 0)
		rc = system_error(err, "write", name);
	if (close(fd) != 0 && !rc)
		rc = system_error(err, "write", name);
	if (!rc && (renameat(dir_fd, temp, dir_fd, name) != 0 || fsync(dir_fd) != 0))
		rc = system_error(err, "write", name);
	if (rc)
		(void)unlinkat(dir_fd, temp, 0); /* best effort: it is overwritten next time */
	return rc;
}

int p2p_state_read(int dir_fd, const char *name, void *out, size_t max, size_t *out_len)
{
	int fd = openat(dir_fd, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
	uint8_t *bytes = out, extra;
	size_t len = 0;
	ssize_t got = 0;

	if (fd < 0)
		return errno_code(errno);
	while (len < max) {
		got = read(fd, bytes + len, max - len);
		if (got < 0 && errno == EINTR)
			continue;
		if (got <= 0)
			break;
		len += (size_t)got;
	}
	if (got >= 0 && len == max)
		got = read(fd, &extra, 1) > 0 ? -2 : 0;
	(void)close(fd); /* read only */
	if (got < 0)
		return got == -2 ? P2P_ETOOBIG : P2P_EIO;
	*out_len = len;
	return 0;
}

void p2p_state_remove(int dir_fd, const char *name)
{
	/* what is not removed now is found again at the next start, and does no harm */
	if (unlinkat(dir_fd, name, 0) == 0)
		(void)fsync(dir_fd);
}

/* One line "label hex\n" of 32 bytes; moves *at past it. */
static bool read_line(const char **at, const char *label, uint8_t out[32])
{
	char hex[65];
	size_t len = strlen(label);

	if (strncmp(*at, label, len) != 0 || strnlen(*at + len, 65) < 65 || (*at)[len + 64] != '\n')
		return false;
	memcpy(hex, *at + len, 64);
	hex[64] = 0;
	*at += len + 65;
	len = p2p_unhex(out, 32, hex) == 0;
	sodium_memzero(hex, sizeof(hex));
	return len;
}

static void derive_public(struct p2p_keys *keys, const uint8_t seed[32])
{
	/* none of the three can fail on 32 bytes */
	(void)crypto_sign_seed_keypair(keys->node.bytes, keys->sign_secret, seed);
	(void)crypto_scalarmult_base(keys->wrap.bytes, keys->wrap_secret);
	(void)crypto_scalarmult_base(keys->noise.bytes, keys->noise_secret);
}

static int keys_parse(const char *text, struct p2p_keys *out)
{
	uint8_t seed[32] = {0};
	const char *at = text + strlen(IDENTITY_HEAD);
	bool ok = strncmp(text, IDENTITY_HEAD, strlen(IDENTITY_HEAD)) == 0 &&
		  read_line(&at, "sign ", seed) && read_line(&at, "wrap ", out->wrap_secret) &&
		  read_line(&at, "noise ", out->noise_secret) && *at == 0;

	if (ok)
		derive_public(out, seed);
	sodium_memzero(seed, sizeof(seed));
	return ok ? 0 : P2P_ECORRUPT;
}

static int keys_make(int dir_fd, const struct p2p_env *env, struct p2p_keys *out,
		     struct p2p_error *err)
{
	uint8_t seed[32];
	char text[FILE_MAX], hex[3][65];
	int len, rc;

	p2p_env_random(env, seed, sizeof(seed));
	p2p_env_random(env, out->wrap_secret, sizeof(out->wrap_secret));
	p2p_env_random(env, out->noise_secret, sizeof(out->noise_secret));
	derive_public(out, seed);
	p2p_hex(hex[0], seed, 32);
	p2p_hex(hex[1], out->wrap_secret, 32);
	p2p_hex(hex[2], out->noise_secret, 32);
	len = snprintf(text, sizeof(text), IDENTITY_HEAD "sign %s\nwrap %s\nnoise %s\n", hex[0],
		       hex[1], hex[2]);
	p2p_require(len > 0);
	rc = p2p_state_write(dir_fd, "identity", text, (size_t)len, err);
	sodium_memzero(seed, sizeof(seed));
	sodium_memzero(text, sizeof(text));
	sodium_memzero(hex, sizeof(hex));
	return rc;
}

int p2p_keys_load(int dir_fd, const struct p2p_env *env, struct p2p_keys *out,
		  struct p2p_error *err)
{
	char text[FILE_MAX + 1];
	struct p2p_keys keys = {0};
	size_t len = 0;
	int rc = p2p_state_read(dir_fd, "identity", text, FILE_MAX, &len);

	if (rc == P2P_ENOENT && env) {
		rc = keys_make(dir_fd, env, &keys, err);
	} else if (rc) {
		rc = p2p_error_set(err, rc, "read identity: %s", p2p_strerror(rc));
	} else {
		text[len] = 0;
		rc = keys_parse(text, &keys);
		if (rc)
			rc = p2p_error_set(err, rc,
					   "the identity file in the state directory is "
					   "damaged: bring it back from a backup, or "
					   "remove it and join anew");
	}
	if (!rc)
		*out = keys;
	p2p_keys_wipe(&keys);
	sodium_memzero(text, sizeof(text));
	return rc;
}

int p2p_secret_load(int dir_fd, uint8_t out[P2P_KEY_BYTES], struct p2p_error *err)
{
	char text[FILE_MAX + 1];
	uint8_t secret[P2P_KEY_BYTES];
	const char *at = text + strlen(SECRET_HEAD);
	size_t len = 0;
	int rc = p2p_state_read(dir_fd, "secret", text, FILE_MAX, &len);

	if (rc)
		return p2p_error_set(err, rc, "read the mesh secret: %s", p2p_strerror(rc));
	text[len] = 0;
	if (strncmp(text, SECRET_HEAD, strlen(SECRET_HEAD)) != 0 ||
	    !read_line(&at, "epoch ", secret) || *at)
		rc = p2p_error_set(err, P2P_ECORRUPT,
				   "the mesh secret in the state directory is damaged: bring it "
				   "back from a backup, or join anew");
	else
		memcpy(out, secret, sizeof(secret));
	sodium_memzero(text, sizeof(text));
	sodium_memzero(secret, sizeof(secret));
	return rc;
}

int p2p_secret_store(int dir_fd, const uint8_t secret[P2P_KEY_BYTES], struct p2p_error *err)
{
	char text[FILE_MAX], hex[65];
	int len, rc;

	p2p_hex(hex, secret, P2P_KEY_BYTES);
	len = snprintf(text, sizeof(text), SECRET_HEAD "epoch %s\n", hex);
	p2p_require(len > 0);
	rc = p2p_state_write(dir_fd, "secret", text, (size_t)len, err);
	sodium_memzero(text, sizeof(text));
	sodium_memzero(hex, sizeof(hex));
	return rc;
}
