/* pipe2 writes its two fds into a page that another thread unmaps and maps again in a loop: sometimes it is unmapped
 * before the system call returns to user space. Runs for four minutes, or until it is killed. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <pthread.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

static int *page;
static volatile int over;

static void *take_away(void *unused)
{
    while (!over) {
        mprotect(page, 4096, PROT_NONE);
        mprotect(page, 4096, PROT_READ | PROT_WRITE);
    }
    return unused;
}

int main(void)
{
    page = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    pthread_t other;
    if (page == MAP_FAILED || pthread_create(&other, NULL, take_away, NULL))
        return 1;
    for (time_t end = time(NULL) + 240; time(NULL) < end;) {
        pipe2(page, O_CLOEXEC);
        close_range(3, 100, 0);
    }
    over = 1;
    return 0;
}
