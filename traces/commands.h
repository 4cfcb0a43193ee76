/* The commands of traces/ (main.c lists them). Each returns the exit status. */
#ifndef TRACES_COMMANDS_H
#define TRACES_COMMANDS_H

int command_trace(int argc, char **argv);
int command_simulate(int argc, char **argv);
int command_replay(int argc, char **argv);

#endif
