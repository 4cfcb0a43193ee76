/* The subcommands that this room gives to main.c. argv starts at the command's own name; exit
 * status: 0 done, 1 failed, 2 wrong usage. */
#ifndef MODEL_COMMANDS_H
#define MODEL_COMMANDS_H

int command_inspect(int argc, char **argv);
int command_tokenize(int argc, char **argv);

#endif
