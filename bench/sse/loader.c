/* Holds many event streams open from one thread: the same load for every server that bench/sse_peers.py compares.
 *
 *   loader PORT PATH CONNECTIONS STALLED
 *
 * Opens the streams a few at a time, so that a server's backlog is never what is measured, and prints "ready" once each
 * has its response's head. Of these STALLED more never read again (with a small receive buffer). Every event holds
 * "stage":"<CLOCK_MONOTONIC ns>-<number>". Commands on stdin, one a line: "reset" forgets what was counted; "report"
 * prints one line of JSON; the end of stdin ends it.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { OPENING_AT_ONCE = 64, CARRY_BYTES = 64, READ_BYTES = 256 * 1024 };
static const char MARK[] = "\"stage\":\"";
enum { MARK_BYTES = sizeof MARK - 1 };

struct stream {
    int fd;
    int begun;   /* the response's head has come */
    int stalled; /* reads no more */
    int carried; /* bytes of the last read that may be the beginning of a mark */
    char carry[CARRY_BYTES];
    int64_t last; /* number of the newest event, -1 before the first */
};

static struct stream *streams;
static int wanted, opened, begun, epoll;
static struct sockaddr_in server;
static char request[4096];
static char buffer[CARRY_BYTES + READ_BYTES];
static uint32_t *latencies_us;
static size_t delivered, room;
static long gaps, repeats, lost;

static void fail(const char *what) {
    perror(what);
    exit(1);
}

static int64_t now_ns(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

static void open_one(void) {
    struct stream *one = &streams[opened++];
    one->fd = socket(AF_INET, SOCK_STREAM, 0);
    if (one->fd < 0) fail("socket");
    if (one->stalled) {
        int size = 4096;
        setsockopt(one->fd, SOL_SOCKET, SO_RCVBUF, &size, sizeof size);
    }
    if (connect(one->fd, (struct sockaddr *)&server, sizeof server) < 0) fail("connect");
    if (write(one->fd, request, strlen(request)) < 0) fail("write");
    struct epoll_event watch = {.events = EPOLLIN, .data.ptr = one};
    if (epoll_ctl(epoll, EPOLL_CTL_ADD, one->fd, &watch) < 0) fail("epoll_ctl");
}

static void delivery(struct stream *one, int64_t stamp_ns, int64_t number, int64_t now) {
    if (one->last >= 0 && number <= one->last) repeats++;
    else if (one->last >= 0 && number > one->last + 1) gaps++;
    one->last = number;
    if (delivered == room) {
        room = room ? 2 * room : 1 << 16;
        latencies_us = realloc(latencies_us, room * sizeof *latencies_us);
        if (!latencies_us) fail("realloc");
    }
    int64_t us = (now - stamp_ns) / 1000;
    latencies_us[delivered++] = us < 0 ? 0 : us > UINT32_MAX ? UINT32_MAX : (uint32_t)us;
}

/* Finds the marks in what was read; keeps the end of it where a mark may go on in the next read. */
static void scan(struct stream *one, const char *data, size_t size, int64_t now) {
    const char *end = data + size, *at = data, *mark;
    while ((mark = memmem(at, end - at, MARK, MARK_BYTES))) {
        const char *quote = memchr(mark + MARK_BYTES, '"', end - mark - MARK_BYTES);
        if (!quote) break;
        char *after;
        int64_t stamp_ns = strtoll(mark + MARK_BYTES, &after, 10);
        if (*after == '-') delivery(one, stamp_ns, strtoll(after + 1, NULL, 10), now);
        at = quote;
    }
    const char *keep = mark ? mark : end - at > MARK_BYTES ? end - MARK_BYTES : at;
    one->carried = end - keep > CARRY_BYTES ? 0 : (int)(end - keep);
    memcpy(one->carry, keep, one->carried);
}

static void readable(struct stream *one) {
    memcpy(buffer, one->carry, one->carried);
    ssize_t got = recv(one->fd, buffer + one->carried, READ_BYTES, MSG_DONTWAIT);
    int64_t now = now_ns();
    if (got < 0 && errno == EAGAIN) return;
    if (got <= 0) {
        lost++;
        epoll_ctl(epoll, EPOLL_CTL_DEL, one->fd, NULL);
        close(one->fd);
        if (!one->begun) { one->begun = 1; begun++; }
        return;
    }
    scan(one, buffer, one->carried + got, now);
    if (!one->begun) {
        one->begun = 1;
        begun++;
        if (one->stalled) epoll_ctl(epoll, EPOLL_CTL_DEL, one->fd, NULL);
    }
}

static int ascending(const void *one, const void *other) {
    uint32_t a = *(const uint32_t *)one, b = *(const uint32_t *)other;
    return (a > b) - (a < b);
}

static void report(void) {
    qsort(latencies_us, delivered, sizeof *latencies_us, ascending);
    printf("{\"delivered\": %zu, \"gaps\": %ld, \"repeats\": %ld, \"lost\": %ld, \"p50_us\": %u, \"p99_us\": %u, "
           "\"max_us\": %u}\n", delivered, gaps, repeats, lost, delivered ? latencies_us[delivered / 2] : 0,
           delivered ? latencies_us[delivered * 99 / 100] : 0, delivered ? latencies_us[delivered - 1] : 0);
    fflush(stdout);
}

static void command(void) {
    char line[64];
    if (!fgets(line, sizeof line, stdin)) exit(0);
    if (!strcmp(line, "reset\n")) {
        delivered = 0;
        gaps = repeats = lost = 0;
        puts("done");
        fflush(stdout);
    } else if (!strcmp(line, "report\n")) report();
}

int main(int count, char **given) {
    if (count != 5) return fprintf(stderr, "usage: %s PORT PATH CONNECTIONS STALLED\n", given[0]), 2;
    int port = atoi(given[1]), stalled = atoi(given[4]);
    wanted = atoi(given[3]) + stalled;
    server = (struct sockaddr_in){.sin_family = AF_INET, .sin_port = htons(port),
                                  .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    snprintf(request, sizeof request, "GET %s HTTP/1.1\r\nHost: 127.0.0.1:%d\r\nAccept: text/event-stream\r\n\r\n",
             given[2], port);
    streams = calloc(wanted, sizeof *streams);
    epoll = epoll_create1(0);
    if (!streams || epoll < 0) fail("start");
    for (int i = 0; i < wanted; i++) {
        streams[i].last = -1;
        streams[i].stalled = i >= wanted - stalled;
    }
    struct epoll_event watch = {.events = EPOLLIN, .data.ptr = NULL}, ready[256];
    if (epoll_ctl(epoll, EPOLL_CTL_ADD, STDIN_FILENO, &watch) < 0) fail("epoll_ctl");
    for (int said = 0;;) {
        while (opened < wanted && opened - begun < OPENING_AT_ONCE) open_one();
        if (!said && begun == wanted) {
            said = 1;
            puts("ready");
            fflush(stdout);
        }
        int found = epoll_wait(epoll, ready, 256, -1);
        for (int i = 0; i < found; i++) {
            if (ready[i].data.ptr) readable(ready[i].data.ptr);
            else command();
        }
    }
}
