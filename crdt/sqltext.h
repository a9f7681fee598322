/* Words of an SQL text, so that a trigger of the application can be copied under a guard.
 *
 * What a statement means is SQLite's to say, never ours: here are only its words, with strings,
 * quoted names and comments told apart as SQLite does. */
#ifndef P2P_CRDT_SQLTEXT_H
#define P2P_CRDT_SQLTEXT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "proto/buf.h"

enum p2p_token_kind {
	P2P_TOKEN_END,
	P2P_TOKEN_WORD,	  /* a keyword, a name without quotes, a number */
	P2P_TOKEN_QUOTED, /* "x", `x`, [x] or 'x' */
	P2P_TOKEN_SIGN,	  /* one character of anything else */
};

struct p2p_token {
	enum p2p_token_kind kind;
	const char *text; /* borrowed from the SQL, quotes included */
	size_t len;
};

/* The next word from *at on, which moves behind it. Comments and spaces are passed over. */
void p2p_token_next(const char **at, struct p2p_token *out);
/* It is this word without quotes (ASCII case folded), or this sign. */
bool p2p_token_is(const struct p2p_token *token, const char *word);
/* The words stand there one after the other, without quotes. */
bool p2p_sqltext_has(const char *sql, const char *const *words, size_t count);

enum p2p_sql_event { P2P_SQL_INSERT = 1, P2P_SQL_UPDATE = 2, P2P_SQL_DELETE = 4 };

/* Parts of a CREATE TRIGGER as sqlite_schema has it; all borrowed from it. */
struct p2p_trigger_text {
	const char *rest;     /* behind the name: BEFORE, AFTER or INSTEAD OF and so on */
	const char *rest_end; /* behind the table and FOR EACH ROW */
	const char *when;     /* its condition, up to the body; NULL: none */
	const char *body;     /* from BEGIN on */
	enum p2p_sql_event event;
	bool instead; /* INSTEAD OF: it belongs to a view */
};

/* false: it is not of that form. */
bool p2p_trigger_text_read(struct p2p_trigger_text *out, const char *sql);
/* CREATE TEMP TRIGGER of another name that does the same where `guard` is true. */
void p2p_trigger_text_copy(struct p2p_buf *sql, const struct p2p_trigger_text *text,
			   const char *name, const char *guard);

#endif
