/*
 * files.h
 *		The files of the page.
 */
#ifndef EDA_GATEWAY_FILES_H
#define EDA_GATEWAY_FILES_H

#include <stdbool.h>

#include "request.h"

extern void files_load(const char *www);
extern void files_forget(void);
extern bool files_answer(Request *request); /* false: there is no such file */

#endif
