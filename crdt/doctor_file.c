/* Findings about the file as a whole; see doctor.h. */
#include <sqlite3.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "crdt/doctor_private.h"

static int journal_mode(struct p2p_doctor *doctor)
{
	sqlite3_stmt *stmt = NULL;
	char mode[16] = "";
	int rc = sqlite3_prepare_v2(doctor->db, "PRAGMA main.journal_mode", -1, &stmt, NULL);

	if (rc == SQLITE_OK && sqlite3_step(stmt) == SQLITE_ROW)
		(void)snprintf(mode, sizeof(mode), "%s",
			       (const char *)sqlite3_column_text(stmt, 0));
	(void)sqlite3_finalize(stmt); /* without an answer nothing is told */
	if (!mode[0] || strcmp(mode, "wal") == 0)
		return 0;
	return p2p_doctor_tell(doctor, "", P2P_FINDING_NOTE, "journal", "",
			       "its journal mode is '%s': it is switched to WAL when it is shared, "
			       "so that applications and the node can work at the same time",
			       mode);
}

static int damage(struct p2p_doctor *doctor)
{
	sqlite3_stmt *stmt = NULL;
	char what[200] = "ok";
	int rc = sqlite3_prepare_v2(doctor->db, "PRAGMA main.quick_check(1)", -1, &stmt, NULL);

	if (rc == SQLITE_OK)
		rc = sqlite3_step(stmt);
	if ((rc & 0xff) == SQLITE_ERROR) {
		/* nothing is wrong with the file: an index needs what only its application has */
		(void)snprintf(what, sizeof(what), "%s", sqlite3_errmsg(doctor->db));
		(void)sqlite3_finalize(stmt); /* told here */
		return p2p_doctor_tell(doctor, "", P2P_FINDING_NOTE, "integrity", "",
				       "whether it is damaged can only be checked by the "
				       "application (%s)",
				       what);
	}
	if (rc == SQLITE_ROW)
		(void)snprintf(what, sizeof(what), "%s",
			       (const char *)sqlite3_column_text(stmt, 0));
	else
		(void)snprintf(what, sizeof(what), "%s", sqlite3_errmsg(doctor->db));
	(void)sqlite3_finalize(stmt); /* told above */
	if (strcmp(what, "ok") == 0)
		return 0;
	return p2p_doctor_tell(doctor, "", P2P_FINDING_ERROR, "integrity",
			       "mend it first (sqlite3 DB .recover), for a node would send what it "
			       "reads",
			       "SQLite finds it damaged: %s", what);
}

static int dangling(struct p2p_doctor *doctor)
{
	long long count = 0;
	int rc = p2p_doctor_count(doctor, &count, "SELECT count(*) FROM pragma_foreign_key_check");

	if (rc || !count)
		return rc;
	return p2p_doctor_tell(doctor, "", P2P_FINDING_WARN, "foreign_key", "",
			       "%lld rows refer to rows that are not there (the application runs "
			       "without foreign_keys?): they are taken as they are, on every node",
			       count);
}

/* A file that several users write needs their rights on its directory and on -wal and -shm, too. */
static int permissions(struct p2p_doctor *doctor)
{
	struct stat file, dir;
	char path[4096];
	char *slash;

	(void)snprintf(path, sizeof(path), "%s", doctor->path);
	slash = strrchr(path, '/');
	(void)snprintf(slash ? slash + 1 : path, 2, "%s", slash ? "" : ".");
	if (stat(doctor->path, &file) != 0 || stat(path, &dir) != 0)
		return 0; /* it was just opened: somebody moved it */
	if ((file.st_mode & (S_IWGRP | S_IWOTH)) & ~dir.st_mode)
		return p2p_doctor_tell(doctor, "", P2P_FINDING_ERROR, "permissions",
				       "chmod the directory like the file (and g+s, so that -wal "
				       "and -shm belong to the group)",
				       "other users may write the file (mode %03o) but not its "
				       "directory (mode %03o), where SQLite makes -wal and -shm: "
				       "they will get 'attempt to write a readonly database'",
				       (unsigned)file.st_mode & 0777, (unsigned)dir.st_mode & 0777);
	if (file.st_mode & (S_IWGRP | S_IWOTH))
		return p2p_doctor_tell(doctor, "", P2P_FINDING_NOTE, "permissions",
				       "run the node as the file's owner or in its group",
				       "other users may write the file (mode %03o): -wal and -shm "
				       "that the node makes get the same mode",
				       (unsigned)file.st_mode & 0777);
	return 0;
}

static int general(struct p2p_doctor *doctor)
{
	int rc = p2p_doctor_tell(
		doctor, "", P2P_FINDING_NOTE, "busy",
		"BEGIN IMMEDIATE where a transaction will write, and a busy_timeout",
		"an application that begins a transaction, reads, and writes later can get "
		"SQLITE_BUSY_SNAPSHOT when a change of another node was merged in between; merging "
		"waits for moments without readers, so this is rare");

	if (!rc)
		rc = p2p_doctor_tell(doctor, "", P2P_FINDING_NOTE, "durability", "",
				     "whether an application runs with synchronous=OFF cannot be "
				     "seen from outside: a power cut can then lose what it wrote, "
				     "and what a node had sent of it comes back from the others");
	if (!rc && sqlite3_libversion_number() < 3051003)
		rc = p2p_doctor_tell(doctor, "", P2P_FINDING_NOTE, "sqlite", "",
				     "SQLite %s here has a race between a WAL reset and another "
				     "program's commit (mended in 3.51.3): the node checkpoints "
				     "early and under the lock, so that applications need not",
				     sqlite3_libversion());
	return rc;
}

int p2p_doctor_file(struct p2p_doctor *doctor)
{
	int rc = damage(doctor);

	if (!rc)
		rc = journal_mode(doctor);
	if (!rc)
		rc = permissions(doctor);
	if (!rc)
		rc = dangling(doctor);
	return rc ? rc : general(doctor);
}
