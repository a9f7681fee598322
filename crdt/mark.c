/* The mark; see mark.h. Layout: magic 8, machine 32, dev 8, inode 8, nonce 16, next 16, replica 16,
 * seq 8, head 32, checksum 16: big-endian, one write of fixed length. */
#include "crdt/mark.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "proto/buf.h"

#define MARK_BYTES	    160
#define MARK_CHECKSUM_BYTES 16
#define MARK_PATH_MAX	    4096

static const uint8_t mark_magic[8] = "p2pmark2";

static void machine_read(struct p2p_hash *out)
{
	char text[128];
	ssize_t got = 0;
	int fd = open("/etc/machine-id", O_RDONLY | O_CLOEXEC);

	/* a machine without an id: dev, inode and nonces still tell */
	if (fd >= 0) {
		got = read(fd, text, sizeof(text));
		(void)close(fd);
	}
	p2p_hash_bytes(out, text, got > 0 ? (size_t)got : 0);
}

int p2p_mark_here(struct p2p_mark *out, const char *db_path)
{
	struct stat st;

	memset(out, 0, sizeof(*out));
	if (stat(db_path, &st) != 0)
		return P2P_EIO;
	machine_read(&out->machine);
	out->dev = st.st_dev;
	out->inode = st.st_ino;
	return 0;
}

static int mark_path(char path[MARK_PATH_MAX], const char *state_dir)
{
	int len = snprintf(path, MARK_PATH_MAX, "%s/mark", state_dir);

	return len > 0 && len < MARK_PATH_MAX ? 0 : P2P_EINVAL;
}

static void mark_checksum(uint8_t out[MARK_CHECKSUM_BYTES], const void *data, size_t len)
{
	struct p2p_hasher hasher;

	p2p_hasher_init(&hasher, "p2pnode/mark/1", MARK_CHECKSUM_BYTES);
	p2p_hasher_add(&hasher, data, len);
	p2p_hasher_final(&hasher, out, MARK_CHECKSUM_BYTES);
}

int p2p_mark_read(struct p2p_mark *out, const char *state_dir)
{
	uint8_t bytes[MARK_BYTES + 1], checksum[MARK_CHECKSUM_BYTES];
	struct p2p_reader reader;
	char path[MARK_PATH_MAX];
	ssize_t got;
	int fd, rc = mark_path(path, state_dir);

	if (rc)
		return rc;
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return errno == ENOENT ? P2P_ENOENT : P2P_EIO;
	got = read(fd, bytes, sizeof(bytes));
	(void)close(fd);
	if (got < 0)
		return P2P_EIO;
	mark_checksum(checksum, bytes, MARK_BYTES - MARK_CHECKSUM_BYTES);
	if (got != MARK_BYTES || memcmp(bytes, mark_magic, sizeof(mark_magic)) != 0 ||
	    memcmp(checksum, bytes + MARK_BYTES - MARK_CHECKSUM_BYTES, MARK_CHECKSUM_BYTES) != 0)
		return P2P_ECORRUPT;
	p2p_reader_init(&reader, bytes + sizeof(mark_magic), MARK_BYTES - sizeof(mark_magic));
	p2p_read_into(&reader, out->machine.bytes, P2P_HASH_BYTES);
	out->dev = p2p_read_u64(&reader);
	out->inode = p2p_read_u64(&reader);
	p2p_read_into(&reader, out->nonce, P2P_MARK_NONCE_BYTES);
	p2p_read_into(&reader, out->next, P2P_MARK_NONCE_BYTES);
	p2p_read_into(&reader, out->replica.bytes, P2P_ID_BYTES);
	out->seq = p2p_read_u64(&reader);
	p2p_read_into(&reader, out->head.bytes, P2P_HASH_BYTES);
	return p2p_reader_error(&reader);
}

static int mark_store(const char *path, const struct p2p_buf *buf, bool durable)
{
	int fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600), rc = 0;
	ssize_t wrote;

	if (fd < 0)
		return errno == ENOSPC ? P2P_EFULL : P2P_EIO;
	wrote = pwrite(fd, buf->data, buf->len, 0);
	if (wrote < 0 || (size_t)wrote != buf->len)
		rc = errno == ENOSPC ? P2P_EFULL : P2P_EIO;
	if (!rc && durable && fsync(fd) != 0)
		rc = P2P_EIO;
	if (close(fd) != 0 && !rc)
		rc = P2P_EIO;
	return rc;
}

/* A file that is new is found again only when its directory is synced too. */
static int directory_sync(const char *state_dir)
{
	int fd = open(state_dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC), rc;

	if (fd < 0)
		return P2P_EIO;
	rc = fsync(fd) == 0 ? 0 : P2P_EIO;
	(void)close(fd); /* only read */
	return rc;
}

int p2p_mark_write(const struct p2p_mark *mark, const char *state_dir, bool durable)
{
	uint8_t checksum[MARK_CHECKSUM_BYTES];
	char path[MARK_PATH_MAX];
	struct p2p_buf buf;
	int rc = mark_path(path, state_dir);

	if (rc)
		return rc;
	p2p_buf_init(&buf, MARK_BYTES);
	p2p_buf_put(&buf, mark_magic, sizeof(mark_magic));
	p2p_buf_put(&buf, mark->machine.bytes, P2P_HASH_BYTES);
	p2p_buf_put_u64(&buf, mark->dev);
	p2p_buf_put_u64(&buf, mark->inode);
	p2p_buf_put(&buf, mark->nonce, P2P_MARK_NONCE_BYTES);
	p2p_buf_put(&buf, mark->next, P2P_MARK_NONCE_BYTES);
	p2p_buf_put(&buf, mark->replica.bytes, P2P_ID_BYTES);
	p2p_buf_put_u64(&buf, mark->seq);
	p2p_buf_put(&buf, mark->head.bytes, P2P_HASH_BYTES);
	if (!p2p_buf_error(&buf))
		mark_checksum(checksum, buf.data, buf.len);
	p2p_buf_put(&buf, checksum, sizeof(checksum));
	rc = p2p_buf_error(&buf);
	if (!rc)
		rc = mark_store(path, &buf, durable);
	if (!rc && durable)
		rc = directory_sync(state_dir);
	p2p_buf_deinit(&buf);
	return rc;
}

bool p2p_mark_same_place(const struct p2p_mark *a, const struct p2p_mark *b)
{
	return p2p_hash_cmp(&a->machine, &b->machine) == 0 && a->dev == b->dev &&
	       a->inode == b->inode;
}
