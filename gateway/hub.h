/*
 * hub.h
 *		The feed.
 */
#ifndef EDA_GATEWAY_HUB_H
#define EDA_GATEWAY_HUB_H

/* What the hub tells its readers; main.c says who they are. */
typedef struct HubEvents
{
	void (*on_changes)(void);                     /* the list has new changes */
	void (*on_gap)(const char *reason);           /* no client will be sent some changes */
	void (*on_status)(void);                      /* hub_status() has changed */
	void (*on_dispatched)(const char *flow_type); /* an event of this flow type was dispatched */
} HubEvents;

extern void hub_start(const HubEvents *events);
extern void hub_stop(void);
extern const char *hub_status(void); /* a JSON object */

#endif
