/*
 * Starts a bash that knows the wrapper's variable by its older name only, BASH_EXEC_WRAPPER, with the value of
 * EXEC_WRAPPER, which is what the suite sets. BASH is the path of that bash.
 */
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

int main(int argc, char **argv)
{
    (void)argc;
    const char *wrapper = getenv("EXEC_WRAPPER");
    if (wrapper == NULL || setenv("BASH_EXEC_WRAPPER", wrapper, 1) == 0)
        execv(BASH, argv);
    perror(BASH);
    return 127;
}
