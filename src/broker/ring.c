/*
 * ring.c
 *		Messages that have no receipt yet, in the order in which they were handed over.
 *
 * A ring of numbered slots.  A slot is in use until the caller has read its receipt, so
 * a caller that reads no receipts runs out of room, and the list of receipts cannot
 * overflow.  All functions but parcel_create() must be called with the broker's lock
 * held.
 *
 * What a reader would get wrong: the courier reads parcels without the lock while it
 * sends them.  A receipt that is written meanwhile must not free the parcel.  So
 * release_parcel() leaves a pinned parcel alone, and ring_unpin() frees it.
 */
#include "broker/broker_int.h"

#include <stdlib.h>
#include <string.h>

/* The slot for the message of this number, whatever its state. */
static Slot *
ring_slot(Ring *ring, uint64_t number)
{
	return &ring->slots[number % BROKER_WINDOW];
}

/* ------------------------------------------------------------------------
 * Parcels
 * ------------------------------------------------------------------------ */

/* Copy bytes to *to and append a zero byte.  Returns the copy, and moves *to behind it. */
static const char *
copy_string(char **to, const char *from, size_t length)
{
	char *start = *to;

	memcpy(start, from, length);
	start[length] = '\0';
	*to = start + length + 1;
	return start;
}

/* Copy a message into one block of memory; returns NULL if there is none. */
Parcel *
parcel_create(const BrokerMessage *message)
{
	int nheaders = 2;
	size_t text = strlen(message->subject) + 1 + strlen(message->id) + 1 + message->body_length + 1;
	size_t lines = strlen("NATS/1.0\r\n\r\n") + strlen("Nats-Msg-Id: \r\n") + strlen(message->id);
	size_t size;
	Parcel *parcel;
	char *to;

	for (const char *const *h = message->headers; h != NULL && h[0] != NULL; h += 2)
	{
		size_t length = strlen(h[0]) + strlen(h[1]);

		nheaders += 2;
		text += length + 2;
		lines += length + strlen(": \r\n");
	}
	if (message->expires_at != 0)
		lines += strlen("Nats-TTL: 9999999999s\r\n");
	size = sizeof(Parcel) + (nheaders + 1) * sizeof(char *) + text;
	parcel = malloc(size);
	if (parcel == NULL)
		return NULL;
	parcel->expires_at = message->expires_at;
	parcel->size = size;
	parcel->wire = lines + message->body_length;
	to = (char *) &parcel->headers[nheaders + 1];
	parcel->subject = copy_string(&to, message->subject, strlen(message->subject));
	parcel->headers[0] = "Nats-Msg-Id";
	parcel->headers[1] = copy_string(&to, message->id, strlen(message->id));
	for (int i = 2; i < nheaders; i++)
		parcel->headers[i] = copy_string(&to, message->headers[i - 2], strlen(message->headers[i - 2]));
	parcel->headers[nheaders] = NULL;
	parcel->body = copy_string(&to, message->body, message->body_length);
	parcel->body_length = message->body_length;
	return parcel;
}

/* Free a parcel, unless the courier may be reading it. */
static void
release_parcel(Ring *ring, uint64_t number)
{
	Slot *slot = ring_slot(ring, number);

	if (number >= ring->pin_from && number < ring->pin_to)
		return;
	free(slot->parcel);
	slot->parcel = NULL;
}

/* Give up the slots at the beginning of the ring that are no longer needed. */
static void
retire_slots(Ring *ring)
{
	while (ring->first < ring->last)
	{
		Slot *slot = ring_slot(ring, ring->first);

		if (slot->state != SLOT_FREE || slot->parcel != NULL)
			break;
		ring->first++;
	}
	if (ring->next < ring->first)
		ring->next = ring->first;
}

/* ------------------------------------------------------------------------
 * In and out
 * ------------------------------------------------------------------------ */

/*
 * Append a parcel.  Returns false if there is no room; then the parcel still belongs to
 * the caller.
 */
bool
ring_add(Ring *ring, const BrokerTag *tag, Parcel *parcel)
{
	Slot *slot;

	if (ring->last - ring->first >= BROKER_WINDOW)
		return false;
	/* A message larger than the whole window is taken if no other message waits. */
	if (ring->bytes > 0 && ring->bytes + parcel->size > BROKER_WINDOW_BYTES)
		return false;
	slot = ring_slot(ring, ring->last++);
	*slot = (Slot){.tag = *tag, .state = SLOT_WAITING, .parcel = parcel};
	ring->waiting++;
	ring->bytes += parcel->size;
	return true;
}

/* The slot of a message without a receipt; NULL if it has one or was withdrawn. */
Slot *
ring_find_waiting(Ring *ring, uint64_t number)
{
	if (number < ring->first || number >= ring->last || ring_slot(ring, number)->state != SLOT_WAITING)
		return NULL;
	return ring_slot(ring, number);
}

/* A message no longer waits for its acknowledgement: count it off and free its parcel. */
static void
end_waiting(Ring *ring, uint64_t number, SlotState state)
{
	Slot *slot = ring_slot(ring, number);

	slot->state = state;
	ring->waiting--;
	ring->bytes -= slot->parcel->size;
	if (number < ring->next)
		ring->in_flight--;
	release_parcel(ring, number);
}

/* Write the receipt of a message that has none. */
void
ring_write_receipt(Ring *ring, uint64_t number, BrokerVerdict verdict, const char *error)
{
	Slot *slot = ring_slot(ring, number);

	slot->verdict = verdict;
	slot->error = error != NULL ? strdup(error) : NULL;
	end_waiting(ring, number, SLOT_RECEIPT);
	ring->receipts[ring->receipt_last++ % BROKER_WINDOW] = number;
}

/* Write a receipt for all messages to a subject that have none; returns how many. */
int
ring_write_subject_receipts(Ring *ring, const char *subject, BrokerVerdict verdict, const char *error)
{
	int n = 0;

	for (uint64_t number = ring->first; number < ring->last; number++)
	{
		Slot *slot = ring_find_waiting(ring, number);

		if (slot == NULL || strcmp(slot->parcel->subject, subject) != 0)
			continue;
		ring_write_receipt(ring, number, verdict, error);
		n++;
	}
	return n;
}

/* Forget a message that has no receipt. */
void
ring_withdraw(Ring *ring, const BrokerTag *tag)
{
	for (uint64_t number = ring->first; number < ring->last; number++)
	{
		Slot *slot = ring_slot(ring, number);

		if (slot->state == SLOT_WAITING && memcmp(&slot->tag, tag, sizeof(*tag)) == 0)
			end_waiting(ring, number, SLOT_FREE);
	}
	retire_slots(ring);
}

/* Hand out the oldest receipts, at most max of them; returns how many. */
int
ring_read_receipts(Ring *ring, BrokerReceipt *out, int max)
{
	int n;

	for (n = 0; n < max && ring->receipt_first < ring->receipt_last; n++)
	{
		Slot *slot = ring_slot(ring, ring->receipts[ring->receipt_first++ % BROKER_WINDOW]);

		out[n].tag = slot->tag;
		out[n].verdict = slot->verdict;
		out[n].error[0] = '\0';
		if (slot->error != NULL)
			strncat(out[n].error, slot->error, sizeof(out[n].error) - 1);
		free(slot->error);
		slot->error = NULL;
		slot->state = SLOT_FREE;
	}
	retire_slots(ring);
	return n;
}

/* ------------------------------------------------------------------------
 * The courier's side
 * ------------------------------------------------------------------------ */

/*
 * Pin the messages from next up to but not including "to": they count as sent, and their
 * parcels stay in memory until ring_unpin().
 */
void
ring_pin(Ring *ring, uint64_t to)
{
	ring->pin_from = ring->next;
	ring->pin_to = to;
	for (; ring->next < to; ring->next++)
		if (ring_slot(ring, ring->next)->state == SLOT_WAITING)
			ring->in_flight++;
}

/* Unpin the pinned messages, and free the parcels of those that no longer wait. */
void
ring_unpin(Ring *ring)
{
	uint64_t from = ring->pin_from;
	uint64_t to = ring->pin_to;

	ring->pin_from = ring->pin_to = 0;
	for (uint64_t number = from; number < to; number++)
		if (ring_slot(ring, number)->state != SLOT_WAITING)
			release_parcel(ring, number);
	retire_slots(ring);
}

/* Let sending start over with the oldest message. */
void
ring_go_back(Ring *ring)
{
	ring->next = ring->first;
	ring->in_flight = 0;
}

/* The slot of the oldest message in flight; NULL if there is none. */
Slot *
ring_oldest_in_flight(Ring *ring)
{
	for (uint64_t number = ring->first; number < ring->next; number++)
		if (ring_slot(ring, number)->state == SLOT_WAITING)
			return ring_slot(ring, number);
	return NULL;
}

/* Free all that the slots own. */
void
ring_free(Ring *ring)
{
	for (uint64_t number = ring->first; number < ring->last; number++)
	{
		free(ring_slot(ring, number)->parcel);
		free(ring_slot(ring, number)->error);
	}
}
