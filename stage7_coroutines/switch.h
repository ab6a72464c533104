/* switch.h - from one stack to another: the only part that knows the processor.
 * Does not: know what runs there, or why.
 *
 * switch.S has it for x86-64 and aarch64, switch_ucontext.c for all others, and for
 * whoever compiles with -DSWITCH_UCONTEXT. */
#ifndef SWITCH_H
#define SWITCH_H

/* Go on at `load`, where somebody else called this function, or at what switch_prepare()
 * has made. *save: where the caller will be found; what it needs stands from there up to
 * the top of its stack, and nothing below. Returns when somebody goes on at *save.
 *
 * What a function may expect to survive a call survives: the callee-saved registers of the
 * ABI. Of the floating-point unit the data does, where the ABI says so (aarch64); its modes
 * do not (MXCSR, the x87 control word, FPCR). Nobody here changes them; who does must undo
 * it before it waits. To save them costs as much again as all the rest.
 * System V ABI, AMD64, section 3.2.1; AAPCS64, section 6.1. */
void switch_stack(void **save, void *load);

/* Make a stack ready to be gone on at for the first time: `entry` is called there, and
 * must not return. top: the end of the stack, a multiple of 16. Returns what to load. */
void *switch_prepare(char *top, void (*entry)(void));

#endif
