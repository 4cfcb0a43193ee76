/* The subcommands that this room gives to main.c. Exit status: 0 done, 1 failed, 2 wrong usage. */
#ifndef SERVER_COMMANDS_H
#define SERVER_COMMANDS_H

int command_serve(int argc, char **argv);
int command_generate(int argc, char **argv);

#endif
