/*
 * process.h
 *		The background workers: who starts, stops and wakes an engine.
 */
#ifndef EDA_PROCESS_H
#define EDA_PROCESS_H

#include "shared/shared.h"

/* ------------------------------------------------------------------------
 * launcher.c
 * ------------------------------------------------------------------------ */

extern void launcher_register(void);

/* ------------------------------------------------------------------------
 * attach.c
 * ------------------------------------------------------------------------ */

/* for launcher.c and ddl.c */
extern EngineNote *attach_note(Oid db, bool make);
extern void attach_tidy_note(EngineNote *note);
extern void attach_wish(Oid db, EngineWish wish);
extern bool attach_note_start(Oid db, EngineStart start);

/* for the engine */
extern EngineArea *attach_engine(Oid db);
extern void attach_no_extension(EngineArea *area);
extern bool attach_must_stop(EngineArea *area);

/* ------------------------------------------------------------------------
 * ddl.c
 * ------------------------------------------------------------------------ */

extern void ddl_init(void);

/* ------------------------------------------------------------------------
 * wakeup.c
 * ------------------------------------------------------------------------ */

extern void wakeup_at_commit(void);
extern void wakeup_wish_engine(void);

#endif
