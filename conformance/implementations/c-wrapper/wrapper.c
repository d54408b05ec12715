/*
 * A wrapper for shell escalation in C, written from conformance/SPEC.md alone. It needs Linux and a C library, and
 * knows all three extensions: signals, bytes and umask.
 *
 *     cc -O2 -o wrapper wrapper.c
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

enum { DENIED = 1, USAGE = 2, FAILED = 126, MISSING = 127 };
enum { MAX_FDS = 16, MAX_DEPTH = 512, MAX_PAYLOAD = 16 << 20 };

static const char SOCKET_VARIABLE[] = "CODEX_ESCALATE_SOCKET";

extern char **environ;

/* ---- standard error ---- */

/* Waits where standard error is a full non-blocking pipe; gives up where it is closed or broken. */
static void print(const char *text, size_t length)
{
    signal(SIGPIPE, SIG_IGN); /* Nothing is executed after a message. */
    while (length > 0) {
        ssize_t written = write(STDERR_FILENO, text, length);
        if (written >= 0) {
            text += written;
            length -= written;
        } else if (errno == EAGAIN) {
            poll(&(struct pollfd){.fd = STDERR_FILENO, .events = POLLOUT}, 1, -1);
        } else if (errno != EINTR) {
            return;
        }
    }
}

/* Ends the wrapper with a message of one line: control characters (the name of a file may hold some) become '?'. */
__attribute__((noreturn, format(printf, 2, 3))) static void fail(int status, const char *format, ...)
{
    char *message = NULL;
    va_list arguments;
    va_start(arguments, format);
    int length = vasprintf(&message, format, arguments);
    va_end(arguments);
    if (length >= 0) {
        for (char *c = message; *c != '\0'; c++)
            if ((unsigned char)*c < ' ' || *c == 0x7f)
                *c = '?';
        message[length] = '\n'; /* In place of the NUL, which print() doesn't need. */
        print(message, length + 1);
    }
    exit(status);
}

/* ---- writing JSON ---- */

struct buffer {
    char *bytes;
    size_t length, room;
};

static void append(struct buffer *to, const void *bytes, size_t length)
{
    if (to->length + length > to->room) {
        to->room = 2 * (to->length + length);
        to->bytes = realloc(to->bytes, to->room);
        if (to->bytes == NULL)
            fail(FAILED, "execve-wrapper: out of memory");
    }
    memcpy(to->bytes + to->length, bytes, length);
    to->length += length;
}

__attribute__((format(printf, 2, 3))) static void appendf(struct buffer *to, const char *format, ...)
{
    char text[64];
    va_list arguments;
    va_start(arguments, format);
    append(to, text, vsnprintf(text, sizeof text, format, arguments));
    va_end(arguments);
}

/* Decodes one character of strict UTF-8 (RFC 3629). Returns its length in bytes, or 0 if there is none. */
static size_t decode_utf8(const unsigned char *at, const unsigned char *end, uint32_t *character)
{
    static const uint32_t least[] = {0, 0, 0x80, 0x800, 0x10000};
    size_t length = 0;
    if (at < end && (*at < 0x80 || *at >= 0xc0))
        length = *at < 0x80 ? 1 : *at < 0xe0 ? 2 : *at < 0xf0 ? 3 : *at < 0xf8 ? 4 : 0;
    if (length == 0 || length > (size_t)(end - at))
        return 0;
    *character = length == 1 ? *at : *at & (0x7f >> length);
    for (size_t i = 1; i < length; i++) {
        if ((at[i] & 0xc0) != 0x80)
            return 0;
        *character = *character << 6 | (at[i] & 0x3f);
    }
    bool surrogate = *character >= 0xd800 && *character <= 0xdfff;
    return *character < least[length] || *character > 0x10ffff || surrogate ? 0 : length;
}

static size_t encode_utf8(uint32_t character, char out[4])
{
    static const unsigned char lead[] = {0, 0, 0xc0, 0xe0, 0xf0};
    size_t length = character < 0x80 ? 1 : character < 0x800 ? 2 : character < 0x10000 ? 3 : 4;
    for (size_t i = length - 1; i > 0; i--, character >>= 6)
        out[i] = (char)(0x80 | (character & 0x3f));
    out[0] = (char)(lead[length] | character);
    return length;
}

/* Bytes that are not UTF-8 become lone surrogates, U+DC00 plus the byte: extension "bytes". */
static void append_string(struct buffer *to, const char *text, size_t length)
{
    const unsigned char *at = (const unsigned char *)text, *end = at + length;
    append(to, "\"", 1);
    while (at < end) {
        uint32_t character;
        size_t size = decode_utf8(at, end, &character);
        if (size == 0)
            appendf(to, "\\udc%02x", *at);
        else if (character < ' ' || character == '"' || character == '\\')
            appendf(to, "\\u%04x", character);
        else
            append(to, at, size);
        at += size == 0 ? 1 : size;
    }
    append(to, "\"", 1);
}

/* ---- reading JSON: a cursor, whose first error sticks ---- */

struct reader {
    unsigned char *at, *end;
    bool failed;
};

struct string {
    char *bytes;
    size_t length;
};

static void skip_space(struct reader *in)
{
    while (in->at < in->end && strchr(" \t\r\n", *in->at) != NULL && *in->at != '\0')
        in->at++;
}

/* The next character that isn't white space, or NUL (which JSON doesn't have) at the end and after an error. */
static char peek(struct reader *in)
{
    skip_space(in);
    return in->failed || in->at == in->end ? '\0' : (char)*in->at;
}

static bool take(struct reader *in, char wanted)
{
    bool found = peek(in) == wanted;
    in->at += found;
    return found;
}

static void expect(struct reader *in, char wanted)
{
    if (!take(in, wanted))
        in->failed = true;
}

static bool take_word(struct reader *in, const char *word)
{
    size_t length = strlen(word);
    bool found = peek(in) == *word && length <= (size_t)(in->end - in->at) && memcmp(in->at, word, length) == 0;
    in->at += found ? length : 0;
    return found;
}

/* Reads the four digits of \uXXXX, or gives UINT32_MAX. */
static uint32_t read_hex(const unsigned char *at, const unsigned char *end)
{
    if (end - at < 4 || strspn((const char[]){at[0], at[1], at[2], at[3], 0}, "0123456789abcdefABCDEF") != 4)
        return UINT32_MAX;
    return strtoul((const char[]){at[0], at[1], at[2], at[3], 0}, NULL, 16);
}

/* Reads a string in place: what is read is never longer than what was written. */
static struct string read_string(struct reader *in)
{
    expect(in, '"');
    struct string text = {(char *)in->at, 0};
    while (!in->failed) {
        uint32_t character;
        size_t size = decode_utf8(in->at, in->end, &character);
        in->at += size;
        if (size == 0 || character < ' ')
            break;
        if (character == '"')
            return text;
        if (character == '\\') {
            static const char escapes[] = "\"\\/bfnrt", meanings[] = "\"\\/\b\f\n\r\t";
            const char *escape = in->at < in->end && *in->at != '\0' ? strchr(escapes, *in->at) : NULL;
            if (escape != NULL) {
                character = meanings[escape - escapes];
                in->at++;
            } else if (in->at < in->end && *in->at == 'u') {
                character = read_hex(in->at + 1, in->end);
                if (character == UINT32_MAX)
                    break;
                in->at += 5;
                if (character >= 0xd800 && character <= 0xdbff) {
                    bool escaped = in->end - in->at >= 6 && in->at[0] == '\\' && in->at[1] == 'u';
                    uint32_t low = escaped ? read_hex(in->at + 2, in->end) : 0;
                    if (low < 0xdc00 || low > 0xdfff)
                        break;
                    character = 0x10000 + ((character - 0xd800) << 10) + (low - 0xdc00);
                    in->at += 6;
                } else if (character >= 0xdc80 && character <= 0xdcff) {
                    text.bytes[text.length++] = (char)character; /* The low byte: extension "bytes". */
                    continue;
                } else if (character >= 0xdc00 && character <= 0xdfff) {
                    break;
                }
            } else {
                break;
            }
        }
        text.length += encode_utf8(character, text.bytes + text.length);
    }
    in->failed = true;
    return text;
}

static bool is(struct string text, const char *wanted)
{
    return text.length == strlen(wanted) && memcmp(text.bytes, wanted, text.length) == 0;
}

/* Skips a number. Returns whether it is an integer. */
static bool skip_number(struct reader *in)
{
    bool integer = true;
    take(in, '-');
    unsigned char *digits = in->at;
    while (in->at < in->end && *in->at >= '0' && *in->at <= '9')
        in->at++;
    if (in->at == digits || (*digits == '0' && in->at - digits > 1))
        in->failed = true;
    for (const char *part = ".eE"; *part != '\0'; part++) {
        if (in->failed || in->at == in->end || *in->at != *part)
            continue;
        integer = false;
        in->at++;
        if (*part != '.' && in->at < in->end && (*in->at == '+' || *in->at == '-'))
            in->at++;
        digits = in->at;
        while (in->at < in->end && *in->at >= '0' && *in->at <= '9')
            in->at++;
        if (in->at == digits)
            in->failed = true;
    }
    return integer;
}

/* Reads an integer. One that a long can't hold becomes the nearest that it can. */
static long read_integer(struct reader *in)
{
    char digits[24] = "";
    peek(in);
    unsigned char *start = in->at;
    if (!skip_number(in))
        in->failed = true;
    size_t length = in->at - start;
    if (length >= sizeof digits)
        return *start == '-' ? LONG_MIN : LONG_MAX;
    memcpy(digits, start, length);
    return strtol(digits, NULL, 10);
}

/* Steps to the next member: use as `for (expect(in, '{'); next_member(in, &first, &name);)`, `first` being true. */
static bool next_member(struct reader *in, bool *first, struct string *name)
{
    if (in->failed || take(in, '}'))
        return false;
    if (!*first)
        expect(in, ',');
    *first = false;
    *name = read_string(in);
    expect(in, ':');
    return !in->failed;
}

static void skip_value(struct reader *in, int depth)
{
    bool first = true;
    struct string name;
    switch (depth > MAX_DEPTH ? '\0' : peek(in)) {
    case '{':
        for (expect(in, '{'); next_member(in, &first, &name);)
            skip_value(in, depth + 1);
        break;
    case '[':
        expect(in, '[');
        if (take(in, ']'))
            break;
        do
            skip_value(in, depth + 1);
        while (take(in, ','));
        expect(in, ']');
        break;
    case '"':
        read_string(in);
        break;
    case 't':
    case 'f':
    case 'n':
        in->failed = !take_word(in, "true") && !take_word(in, "false") && !take_word(in, "null");
        break;
    default:
        skip_number(in);
    }
}

/* ---- messages of the server ---- */

enum action { UNKNOWN, RUN, ESCALATE, DENY };

struct decision {
    enum action action;
    bool has_reason;
    struct string reason;
};

struct result {
    long exit_code, signal, stopped;
    bool has_exit_code, has_signal, has_stopped;
};

static void read_deny(struct reader *in, struct decision *decision)
{
    bool first = true, deny_first, reason_given = false;
    struct string name;
    for (expect(in, '{'); next_member(in, &first, &name);) {
        if (!is(name, "Deny")) {
            skip_value(in, 2);
            continue;
        }
        deny_first = true;
        for (expect(in, '{'); next_member(in, &deny_first, &name);) {
            if (!is(name, "reason")) {
                skip_value(in, 3);
                continue;
            }
            reason_given = true;
            decision->has_reason = !take_word(in, "null");
            if (decision->has_reason)
                decision->reason = read_string(in);
        }
    }
    decision->action = reason_given ? DENY : UNKNOWN;
}

static struct decision read_decision(struct reader *in)
{
    struct decision decision = {UNKNOWN};
    struct string name;
    bool first = true;
    for (expect(in, '{'); next_member(in, &first, &name);) {
        if (!is(name, "action")) {
            skip_value(in, 1);
        } else if (peek(in) == '"') {
            struct string action = read_string(in);
            decision.action = is(action, "Run") ? RUN : is(action, "Escalate") ? ESCALATE : UNKNOWN;
        } else {
            read_deny(in, &decision);
        }
    }
    return decision;
}

static struct result read_result(struct reader *in)
{
    struct result result = {0};
    struct string name;
    bool first = true;
    for (expect(in, '{'); next_member(in, &first, &name);) {
        if (is(name, "exit_code"))
            result.has_exit_code = true, result.exit_code = read_integer(in);
        else if (is(name, "signal"))
            result.has_signal = true, result.signal = read_integer(in);
        else if (is(name, "stopped"))
            result.has_stopped = true, result.stopped = read_integer(in);
        else
            skip_value(in, 1);
    }
    return result;
}

/* ---- frames ---- */

/* sendmsg(2) with descriptors. Waits while the socket is full; its flags belong to others too and stay as they are. */
static ssize_t send_fds(int socket, const void *bytes, size_t length, const int *fds, size_t count)
{
    union {
        struct cmsghdr align;
        char bytes[CMSG_SPACE(MAX_FDS * sizeof(int))];
    } control = {{0}};
    struct iovec part = {(void *)bytes, length};
    struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1};
    if (count > 0) {
        message.msg_control = control.bytes;
        message.msg_controllen = CMSG_SPACE(count * sizeof(int));
        struct cmsghdr *header = CMSG_FIRSTHDR(&message);
        header->cmsg_level = SOL_SOCKET;
        header->cmsg_type = SCM_RIGHTS;
        header->cmsg_len = CMSG_LEN(count * sizeof(int));
        memcpy(CMSG_DATA(header), fds, count * sizeof(int));
    }
    for (;;) {
        ssize_t sent = sendmsg(socket, &message, MSG_NOSIGNAL);
        if (sent >= 0 || (errno != EAGAIN && errno != ETOOMANYREFS && errno != EINTR))
            return sent;
        nanosleep(&(struct timespec){.tv_nsec = 5000000}, NULL); /* POLLOUT comes too late: SPEC.md, section 6. */
    }
}

/*
 * Sends a frame whose first byte carries descriptors. A server that has closed its end is not an error here: what it
 * said before is still to be read, and if it said nothing, reading tells.
 */
static void send_frame(int stream, const struct buffer *payload, const int *fds, size_t count)
{
    struct buffer frame = {0};
    for (int shift = 0; shift < 32; shift += 8)
        append(&frame, &(char){(char)(payload->length >> shift)}, 1);
    append(&frame, payload->bytes, payload->length);
    for (size_t done = 0; done < frame.length; count = 0) {
        ssize_t sent = send_fds(stream, frame.bytes + done, frame.length - done, fds, count);
        if (sent < 0 && (errno == EPIPE || errno == ECONNRESET))
            break;
        if (sent < 0)
            fail(FAILED, "execve-wrapper: can't send to the server: %s", strerror(errno));
        done += sent;
    }
    free(frame.bytes);
}

static void send_signal(int stream, int number)
{
    struct buffer message = {0};
    appendf(&message, "{\"signal\":%d}", number);
    send_frame(stream, &message, NULL, 0);
    free(message.bytes);
}

/*
 * Waits until there is something to read, and forwards signals meanwhile, once `signals` isn't -1. A signal waits in
 * the kernel until the stream has room for it, and a result never waits for a signal.
 */
static void await(int stream, int signals)
{
    struct pollfd ready[] = {{.fd = stream, .events = POLLIN}, {.fd = signals, .events = POLLIN}};
    for (;;) {
        if (poll(ready, 2, -1) < 0)
            continue; /* EINTR, after a stop. */
        if (ready[0].revents != 0)
            return;
        struct pollfd room = {.fd = stream, .events = POLLIN | POLLOUT};
        struct signalfd_siginfo caught;
        if (poll(&room, 1, -1) == 1 && (room.revents & POLLOUT) && read(signals, &caught, sizeof caught) > 0)
            send_signal(stream, caught.ssi_signo);
    }
}

/* Reads exactly `length` bytes. read(2) closes descriptors that come along unasked. */
static void read_exactly(int stream, int signals, void *bytes, size_t length, const char *what)
{
    for (size_t got = 0; got < length;) {
        await(stream, signals);
        ssize_t more = read(stream, (char *)bytes + got, length - got);
        if (more == 0)
            fail(FAILED, "execve-wrapper: the server closed the connection before its %s", what);
        if (more < 0 && errno != EINTR)
            fail(FAILED, "execve-wrapper: can't read the server's %s: %s", what, strerror(errno));
        got += more > 0 ? more : 0;
    }
}

/* Reads a frame, whose payload the caller frees. */
static struct reader read_frame(int stream, int signals, const char *what)
{
    unsigned char size[4];
    read_exactly(stream, signals, size, sizeof size, what);
    uint32_t length = size[0] | size[1] << 8 | size[2] << 16 | (uint32_t)size[3] << 24;
    if (length > MAX_PAYLOAD)
        fail(FAILED, "execve-wrapper: the server announces %u bytes for its %s", length, what);
    unsigned char *payload = malloc(length + 1); /* The kernel gives pages only as they are written. */
    if (payload == NULL)
        fail(FAILED, "execve-wrapper: out of memory");
    read_exactly(stream, signals, payload, length, what);
    return (struct reader){payload, payload + length, false};
}

static void check_end(struct reader *in, const char *what)
{
    if (peek(in) != '\0' || in->failed || in->at != in->end)
        fail(FAILED, "execve-wrapper: the server's %s is malformed", what);
}

/* ---- the course of a request ---- */

static int escalation_socket(void)
{
    const char *text = getenv(SOCKET_VARIABLE);
    if (text == NULL)
        fail(FAILED, "execve-wrapper: %s is not set", SOCKET_VARIABLE);
    errno = 0;
    long number = strtol(text, NULL, 10);
    if (*text == '\0' || text[strspn(text, "0123456789")] != '\0' || errno != 0 || number > INT_MAX)
        fail(FAILED, "execve-wrapper: %s is not the number of a descriptor: '%s'", SOCKET_VARIABLE, text);
    struct stat status;
    if (fstat(number, &status) != 0 || !S_ISSOCK(status.st_mode))
        fail(FAILED, "execve-wrapper: %s=%s is not an open socket", SOCKET_VARIABLE, text);
    return number;
}

/* Hands one end of a new stream to the server. Returns the other, as a number that can't be a standard stream's. */
static int handshake(int escalation)
{
    int pair[2];
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) != 0)
        fail(FAILED, "execve-wrapper: can't make a socket pair: %s", strerror(errno));
    if (send_fds(escalation, "", 1, &pair[1], 1) != 1)
        fail(FAILED, "execve-wrapper: no server at %s: %s", SOCKET_VARIABLE, strerror(errno));
    close(pair[1]);
    if (pair[0] > STDERR_FILENO)
        return pair[0];
    int stream = fcntl(pair[0], F_DUPFD_CLOEXEC, STDERR_FILENO + 1);
    if (stream < 0)
        exit(FAILED); /* Standard error may be the stream here. */
    close(pair[0]);
    return stream;
}

static bool is_wrapper_variable(const char *entry, size_t length)
{
    static const char *const names[] = {"EXEC_WRAPPER", "BASH_EXEC_WRAPPER", SOCKET_VARIABLE};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (length == strlen(names[i]) && memcmp(entry, names[i], length) == 0)
            return true;
    return false;
}

static void send_request(int stream, char **arguments)
{
    struct buffer request = {0};
    char *directory = getcwd(NULL, 0);
    if (directory == NULL)
        fail(FAILED, "execve-wrapper: no working directory: %s", strerror(errno));
    mode_t mask = umask(0);
    umask(mask);

    append(&request, "{\"file\":", 8);
    append_string(&request, arguments[0], strlen(arguments[0]));
    append(&request, ",\"argv\":", 8);
    for (int i = 1; arguments[i] != NULL; i++) {
        append(&request, i == 1 ? "[" : ",", 1);
        append_string(&request, arguments[i], strlen(arguments[i]));
    }
    append(&request, "],\"workdir\":", 12);
    append_string(&request, directory, strlen(directory));
    append(&request, ",\"env\":{", 8);
    bool first = true;
    for (char **entry = environ; *entry != NULL; entry++) {
        char *equals = strchr(*entry, '=');
        if (equals == NULL || is_wrapper_variable(*entry, equals - *entry))
            continue;
        append(&request, ",", first ? 0 : 1);
        append_string(&request, *entry, equals - *entry);
        append(&request, ":", 1);
        append_string(&request, equals + 1, strlen(equals + 1));
        first = false;
    }
    appendf(&request, "},\"umask\":%u}", (unsigned)mask);
    send_frame(stream, &request, NULL, 0);
    free(request.bytes);
    free(directory);
}

/* ELF, or a NUL in the first line: no text, as bash and zsh see it. */
static int is_binary(const char *file)
{
    char start[80];
    int descriptor = open(file, O_RDONLY | O_CLOEXEC);
    ssize_t length = descriptor < 0 ? 0 : read(descriptor, start, sizeof start);
    if (descriptor >= 0)
        close(descriptor);
    if (length >= 4 && memcmp(start, "\177ELF", 4) == 0)
        return 1;
    for (ssize_t i = 0; i < length && start[i] != '\n'; i++)
        if (start[i] == '\0')
            return 1;
    return 0;
}

__attribute__((noreturn)) static void run(char **arguments)
{
    char *file = arguments[0];
    execve(file, arguments + 1, environ);
    int error = errno;
    if (error == ENOEXEC && !is_binary(file)) { /* A script without #!, as in execvp(3). */
        size_t count = 0;
        while (arguments[count] != NULL)
            count++;
        char *script[count + 3], **next = script;
        *next++ = "/bin/sh";
        if (*file == '-')
            *next++ = "--";
        *next++ = file;
        memcpy(next, arguments + 2, (count - 1) * sizeof *next); /* With the NULL. */
        execve("/bin/sh", script, environ);
        error = errno;
    }
    fail(error == ENOENT || error == ENOTDIR ? MISSING : FAILED, "execve-wrapper: %s: %s", file, strerror(error));
}

__attribute__((noreturn)) static void deny(const struct decision *decision)
{
    struct buffer message = {0};
    appendf(&message, "Execution denied");
    if (decision->has_reason)
        append(&message, ": ", 2);
    const unsigned char *at = (unsigned char *)decision->reason.bytes, *end = at + decision->reason.length;
    while (at < end) {
        uint32_t character;
        size_t size = decode_utf8(at, end, &character);
        if (size == 0)
            appendf(&message, "\\x%02x", *at);
        else if ((character < ' ' && character != '\n' && character != '\t') || (character >= 0x7f && character < 0xa0))
            appendf(&message, "\\u{%x}", character);
        else
            append(&message, at, size);
        at += size == 0 ? 1 : size;
    }
    append(&message, "\n", 1);
    print(message.bytes, message.length);
    exit(DENIED);
}

/* Finds what is inheritable: all that this program opens itself is close-on-exec. */
static size_t inherited_fds(int escalation, int fds[MAX_FDS])
{
    size_t count = 0;
    DIR *directory = opendir("/proc/self/fd");
    if (directory == NULL)
        fail(FAILED, "execve-wrapper: can't list descriptors in /proc/self/fd: %s", strerror(errno));
    for (struct dirent *entry; (entry = readdir(directory)) != NULL;) {
        int fd = atoi(entry->d_name);
        if (*entry->d_name == '.' || fd == escalation || fcntl(fd, F_GETFD) != 0)
            continue;
        if (count == MAX_FDS)
            fail(FAILED, "execve-wrapper: more than %d open descriptors can't be escalated", MAX_FDS);
        fds[count++] = fd;
    }
    closedir(directory);
    return count;
}

/*
 * Blocks all signals, since the program may handle what was ignored or blocked here. What is blocked waits even where it is
 * ignored. Returns a signalfd(2) of them.
 */
static int hold_signals(void)
{
    sigset_t held;
    sigfillset(&held);
    sigprocmask(SIG_BLOCK, &held, NULL);
    int signals = signalfd(-1, &held, SFD_CLOEXEC | SFD_NONBLOCK);
    if (signals < 0)
        fail(FAILED, "execve-wrapper: can't receive signals: %s", strerror(errno));
    return signals;
}

/* Dies by the signal that killed the child, or exits where that isn't possible. */
__attribute__((noreturn)) static void die(long number, int status)
{
    static const int harmless[] = {SIGCHLD, SIGCONT, SIGSTOP, SIGTSTP, SIGTTIN, SIGTTOU, SIGURG, SIGWINCH};
    bool deadly = number > 0 && number <= SIGRTMAX;
    for (size_t i = 0; i < sizeof harmless / sizeof *harmless; i++)
        deadly = deadly && number != harmless[i];
    if (deadly) {
        sigset_t only;
        sigemptyset(&only);
        sigaddset(&only, number);
        prctl(PR_SET_DUMPABLE, 0); /* The core would be the wrapper's and not the child's. */
        signal(number, SIG_DFL);
        sigprocmask(SIG_UNBLOCK, &only, NULL);
        kill(getpid(), number);
    }
    exit(status == 0 ? FAILED : status);
}

/* Stops as the child did. When that is over, the child is told, once. */
static void stop(int stream)
{
    sigset_t only;
    sigemptyset(&only);
    sigaddset(&only, SIGCONT);
    kill(getpid(), SIGSTOP);
    sigtimedwait(&only, NULL, &(struct timespec){0});
    send_signal(stream, SIGCONT);
}

__attribute__((noreturn)) static void escalate(int stream, int escalation)
{
    int signals = hold_signals();
    int fds[MAX_FDS];
    size_t count = inherited_fds(escalation, fds);
    struct buffer message = {0};
    appendf(&message, "{\"fds\":[");
    for (size_t i = 0; i < count; i++)
        appendf(&message, i == 0 ? "%d" : ",%d", fds[i]);
    appendf(&message, "],\"signals\":true}");
    send_frame(stream, &message, fds, count);
    free(message.bytes);
    for (size_t i = 0; i < count; i++)
        if (fds[i] != STDERR_FILENO)
            close(fds[i]);

    for (;;) {
        struct reader in = read_frame(stream, signals, "result");
        unsigned char *payload = in.at;
        struct result result = read_result(&in);
        check_end(&in, "result");
        free(payload);
        if (result.has_stopped && !result.has_exit_code) {
            stop(stream);
            continue;
        }
        if (!result.has_exit_code || result.exit_code < 0 || result.exit_code > 255)
            fail(FAILED, "execve-wrapper: the server's result has no exit_code from 0 to 255");
        if (result.has_signal)
            die(result.signal, result.exit_code);
        exit(result.exit_code);
    }
}

int main(int argc, char **argv)
{
    if (argc < 3)
        fail(USAGE, "usage: %s FILE ARGV0 [ARGV1 ...]", argc > 0 ? argv[0] : "execve-wrapper");
    int escalation = escalation_socket();
    int stream = handshake(escalation);
    send_request(stream, argv + 1);

    struct reader in = read_frame(stream, -1, "decision");
    struct decision decision = read_decision(&in);
    check_end(&in, "decision");
    switch (decision.action) {
    case RUN:
        run(argv + 1);
    case ESCALATE:
        escalate(stream, escalation);
    case DENY:
        deny(&decision);
    default:
        fail(FAILED, "execve-wrapper: the server's decision has an unknown action");
    }
}
