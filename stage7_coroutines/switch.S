/* switch.S - switch.h for x86-64 and aarch64.
 * Does not: serve a processor that has shadow stacks switched on. The object says so by
 * lacking the mark that says otherwise (.note.gnu.property), and they stay off for the
 * whole program; so does aarch64's check of where a `br` may go (BTI). switch_ucontext.c
 * works with both.
 *
 * The .cfi lines tell debuggers where the registers are at each instruction. Both stacks
 * look the same from here, so they hold on either side. */
#if defined(__x86_64__) && !defined(SWITCH_UCONTEXT)
    .macro save register
    pushq %\register
    .cfi_adjust_cfa_offset 8
    .cfi_rel_offset \register, 0
    .endm

    .macro restore register
    popq %\register
    .cfi_adjust_cfa_offset -8
    .cfi_restore \register
    .endm

    .text
    .globl switch_stack
    .type switch_stack, @function
/* [switch.x86-64] */
switch_stack:
    .cfi_startproc
    save rbp
    save rbx
    save r12
    save r13
    save r14
    save r15
    movq %rsp, (%rdi)
    movq %rsi, %rsp /* from here on it is the other one's stack */
    restore r15
    restore r14
    restore r13
    restore r12
    restore rbx
    restore rbp
#ifndef SWITCH_RET /* bench/switch compares the two */
    popq %rcx /* where the other one goes on. `ret` would do the same, and be slower: */
    .cfi_adjust_cfa_offset -8
    .cfi_register rip, rcx
    jmpq *%rcx /* the processor expects a `ret` to go back to our own caller */
#else
    ret
#endif
    .cfi_endproc

    .size switch_stack, .-switch_stack
    .globl switch_begin
    .type switch_begin, @function
/* [switch.begin] */
/* The first function of a stack. It calls the one that switch_prepare() has left in the
 * place of %rbx. Nobody has called it, so a backtrace ends here. */
switch_begin:
    .cfi_startproc
    .cfi_undefined rip
    callq *%rbx
    ud2
    .cfi_endproc

    .size switch_begin, .-switch_begin

#elif defined(__aarch64__) && !defined(SWITCH_UCONTEXT)
    .macro save one, other, at
    stp \one, \other, [sp, #\at]
    .cfi_rel_offset \one, \at
    .cfi_rel_offset \other, \at + 8
    .endm

    .text
    .globl switch_stack
    .type switch_stack, @function
/* [switch.aarch64] */
switch_stack:
    .cfi_startproc
    sub sp, sp, #160
    .cfi_adjust_cfa_offset 160
    save x29, x30, 0
    save x19, x20, 16
    save x21, x22, 32
    save x23, x24, 48
    save x25, x26, 64
    save x27, x28, 80
    stp d8, d9, [sp, #96]
    stp d10, d11, [sp, #112]
    stp d12, d13, [sp, #128]
    stp d14, d15, [sp, #144]
    mov x9, sp
    str x9, [x0]
    mov sp, x1 /* from here on it is the other one's stack */
    ldp d14, d15, [sp, #144]
    ldp d12, d13, [sp, #128]
    ldp d10, d11, [sp, #112]
    ldp d8, d9, [sp, #96]
    ldp x27, x28, [sp, #80]
    ldp x25, x26, [sp, #64]
    ldp x23, x24, [sp, #48]
    ldp x21, x22, [sp, #32]
    ldp x19, x20, [sp, #16]
    ldp x29, x30, [sp], #160
    .cfi_adjust_cfa_offset -160
    .cfi_same_value x29
    .cfi_same_value x30
#ifndef SWITCH_RET
    br x30 /* as above */
#else
    ret
#endif
    .cfi_endproc

    .size switch_stack, .-switch_stack
    .globl switch_begin
    .type switch_begin, @function
/* As above; the function is in x19. */
switch_begin:
    .cfi_startproc
    .cfi_undefined x30
    blr x19
    brk #1
    .cfi_endproc

    .size switch_begin, .-switch_begin
#endif
    .section .note.GNU-stack, "", %progbits
