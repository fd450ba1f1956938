/*
 * log.h
 *		Log lines.
 */
#ifndef EDA_GATEWAY_LOG_H
#define EDA_GATEWAY_LOG_H

typedef enum LogLevel
{
	LOG_ERROR,
	LOG_WARN,
	LOG_INFO,
	LOG_DEBUG
} LogLevel;

extern LogLevel log_level; /* lines of a higher level are not written */

extern void log_line(LogLevel level, const char *format, ...) __attribute__((format(printf, 2, 3)));

#endif
