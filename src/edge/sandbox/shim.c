/*
 * Stands in for the interpreter of a script that parvis may answer for: asks process 1 of the sandbox, and where that has no
 * answer becomes the interpreter, which runs the script as if nothing had been in between. It never touches standard input.
 *
 * It lies at AS followed by the path of the interpreter; the kernel passes that path as the first argument. Without a C library:
 * it starts for every call of such a script.
 *
 * Question: length of the rest, umask, number of arguments, number of variables (32 bits each); then, each with a zero byte at
 * its end, the path of the script, the working folder, the arguments, the variables.
 * Answer: 1 where there is one, exit code, two unused bytes, lengths of standard output and error (32 bits each); then both.
 */

#define AS "/run/parvis/as"
#define SOCKET "/run/parvis/native"
#define LONGEST (1 << 20)

#if defined(__x86_64__)
enum { READ = 0, SOCKET_MAKE = 41, CONNECT = 42, WRITE = 1, SEND = 44, EXECVE = 59, GETCWD = 79, UMASK = 95, EXIT_GROUP = 231 };

__asm__(".globl _start\n_start:\n\txor %ebp, %ebp\n\tmov %rsp, %rdi\n\tand $-16, %rsp\n\tcall enter\n");

static long call(long number, long first, long second, long third, long fourth)
{
    long result;
    register long r10 __asm__("r10") = fourth;
    register long r8 __asm__("r8") = 0;
    register long r9 __asm__("r9") = 0;
    __asm__ volatile("syscall"
                     : "=a"(result)
                     : "a"(number), "D"(first), "S"(second), "d"(third), "r"(r10), "r"(r8), "r"(r9)
                     : "rcx", "r11", "memory");
    return result;
}
#elif defined(__aarch64__)
enum { READ = 63, SOCKET_MAKE = 198, CONNECT = 203, WRITE = 64, SEND = 206, EXECVE = 221, GETCWD = 17, UMASK = 166, EXIT_GROUP = 94 };

__asm__(".globl _start\n_start:\n\tmov x29, #0\n\tmov x30, #0\n\tmov x0, sp\n\tb enter\n");

static long call(long number, long first, long second, long third, long fourth)
{
    register long x8 __asm__("x8") = number;
    register long x0 __asm__("x0") = first;
    register long x1 __asm__("x1") = second;
    register long x2 __asm__("x2") = third;
    register long x3 __asm__("x3") = fourth;
    register long x4 __asm__("x4") = 0;
    register long x5 __asm__("x5") = 0;
    __asm__ volatile("svc #0" : "+r"(x0) : "r"(x8), "r"(x1), "r"(x2), "r"(x3), "r"(x4), "r"(x5) : "memory");
    return x0;
}
#else
#error "parvis has no stand-in for this architecture"
#endif

enum { UNIX = 1, STREAM_CLOSED_ON_EXEC = 1 | 02000000, NO_SIGNAL = 0x4000, INTERRUPTED = -4, EXECUTED_AS = 31 };

struct address {
    unsigned short family;
    char path[sizeof SOCKET];
};

struct question {
    unsigned length;
    unsigned umask;
    unsigned arguments;
    unsigned variables;
    char text[LONGEST];
};

struct answer {
    unsigned char found;
    unsigned char code;
    unsigned char unused[2];
    unsigned lengths[2];
};

static const struct address ADDRESS = {UNIX, SOCKET};
static struct question question;
static long used;

static void leave(int code)
{
    for (;;)
        call(EXIT_GROUP, code, 0, 0, 0);
}

static int same(const char *one, const char *other)
{
    while (*one && *one == *other) {
        one++;
        other++;
    }
    return *one == *other;
}

/* Adds a text with its zero byte; returns whether there was room. */
static int add(const char *text)
{
    do {
        if (used == LONGEST)
            return 0;
        question.text[used++] = *text;
    } while (*text++);
    return 1;
}

/* Adds all texts of a list; returns their number, or -1. */
static int add_all(char **list)
{
    int count = 0;
    for (; list[count]; count++)
        if (!add(list[count]))
            return -1;
    return count;
}

static int send_all(int socket, const char *bytes, long length)
{
    while (length > 0) {
        long sent = call(SEND, socket, (long)bytes, length, NO_SIGNAL);
        if (sent == INTERRUPTED)
            continue;
        if (sent <= 0)
            return 0;
        bytes += sent;
        length -= sent;
    }
    return 1;
}

static int read_all(int socket, char *bytes, long length)
{
    while (length > 0) {
        long got = call(READ, socket, (long)bytes, length, 0);
        if (got == INTERRUPTED)
            continue;
        if (got <= 0)
            return 0;
        bytes += got;
        length -= got;
    }
    return 1;
}

/* Passes on what the script would have written. What was asked is done by now: there is no way back. */
static void pass_on(int socket, int stream, unsigned length)
{
    int open = 1;
    while (length > 0) {
        char *at = question.text;
        long part = length < LONGEST ? length : LONGEST;
        if (!read_all(socket, at, part))
            leave(127);
        length -= part;
        while (open && part > 0) {
            long written = call(WRITE, stream, (long)at, part, 0);
            if (written == INTERRUPTED)
                continue;
            if (written <= 0) {
                open = 0;
                break;
            }
            at += written;
            part -= written;
        }
    }
}

/* Asks process 1; returns only where the script has to run. */
static void ask(const char *path, char **arguments, char **variables)
{
    static char folder[4096];
    struct answer answer;
    int count, socket;
    if (call(GETCWD, (long)folder, sizeof folder, 0, 0) <= 0 || !add(path) || !add(folder))
        return;
    if ((count = add_all(arguments)) < 0)
        return;
    question.arguments = count;
    if ((count = add_all(variables)) < 0)
        return;
    question.variables = count;
    question.umask = call(UMASK, 0, 0, 0, 0);
    call(UMASK, question.umask, 0, 0, 0);
    question.length = 3 * sizeof(unsigned) + used;
    socket = call(SOCKET_MAKE, UNIX, STREAM_CLOSED_ON_EXEC, 0, 0);
    /* Where a standard stream is closed, the socket would take its place. */
    if (socket <= 2 || call(CONNECT, socket, (long)&ADDRESS, sizeof ADDRESS, 0) < 0)
        return;
    if (!send_all(socket, (const char *)&question, question.length + sizeof question.length))
        return;
    if (!read_all(socket, (char *)&answer, sizeof answer) || answer.found != 1)
        return;
    pass_on(socket, 1, answer.lengths[0]);
    pass_on(socket, 2, answer.lengths[1]);
    leave(answer.code);
}

__attribute__((used, noreturn)) void enter(long *stack)
{
    long count = stack[0];
    char **arguments = (char **)(stack + 1), **variables = arguments + count + 1;
    const char *path = 0, *as = AS;
    long *auxiliary = (long *)variables;
    char *interpreter = count > 1 ? arguments[0] : "";
    while (*auxiliary++)
        ;
    for (; auxiliary[0]; auxiliary += 2)
        if (auxiliary[0] == EXECUTED_AS)
            path = (const char *)auxiliary[1];
    while (*as && *interpreter == *as) {
        as++;
        interpreter++;
    }
    if (*as)
        leave(127);
    /* Between the interpreter and the script stands what the script's first line has behind the interpreter, if anything. */
    if (path && same(arguments[1], path))
        ask(path, arguments + 2, variables);
    else if (path && count > 2 && same(arguments[2], path))
        ask(path, arguments + 3, variables);
    arguments[0] = interpreter;
    call(EXECVE, (long)interpreter, (long)arguments, (long)variables, 0);
    leave(127);
    for (;;)
        ;
}
