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
extern DatabaseSlot *attach_slot(Oid db, bool make);
extern void attach_free_unused_slot(DatabaseSlot *slot);
extern void attach_request_engine(Oid db, EngineRequest request);
extern bool attach_set_start(Oid db, EngineStart start);

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
extern void wakeup_request_engine(void);

#endif
