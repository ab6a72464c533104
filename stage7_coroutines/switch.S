/* switch.S - switch.h for x86-64 and aarch64.
 * Does not: serve a processor that has shadow stacks switched on. The object says so by
 * lacking the mark that says otherwise (.note.gnu.property), and they stay off for the
 * whole program; so does aarch64's check of where a `br` may go (BTI). switch_ucontext.c
 * works with both.
 *
 * The .cfi lines tell debuggers and sanitizers where the registers are at each
 * instruction. Both stacks look the same from here, so they hold on either side. */
#if defined(__x86_64__) && !defined(SWITCH_UCONTEXT)
    .text
/* [switch.x86-64] */
    .globl switch_stack
    .type switch_stack, @function
switch_stack:
    .cfi_startproc
    pushq %rbp
    .cfi_adjust_cfa_offset 8
    .cfi_rel_offset rbp, 0
    pushq %rbx
    .cfi_adjust_cfa_offset 8
    .cfi_rel_offset rbx, 0
    pushq %r12
    .cfi_adjust_cfa_offset 8
    .cfi_rel_offset r12, 0
    pushq %r13
    .cfi_adjust_cfa_offset 8
    .cfi_rel_offset r13, 0
    pushq %r14
    .cfi_adjust_cfa_offset 8
    .cfi_rel_offset r14, 0
    pushq %r15
    .cfi_adjust_cfa_offset 8
    .cfi_rel_offset r15, 0
    movq %rsp, (%rdi)
    movq %rsi, %rsp /* from here on it is the other one's stack */
    popq %r15
    .cfi_adjust_cfa_offset -8
    .cfi_restore r15
    popq %r14
    .cfi_adjust_cfa_offset -8
    .cfi_restore r14
    popq %r13
    .cfi_adjust_cfa_offset -8
    .cfi_restore r13
    popq %r12
    .cfi_adjust_cfa_offset -8
    .cfi_restore r12
    popq %rbx
    .cfi_adjust_cfa_offset -8
    .cfi_restore rbx
    popq %rbp
    .cfi_adjust_cfa_offset -8
    .cfi_restore rbp
    popq %rcx /* where to go on; `ret` would do the same, and be predicted wrong: the */
    .cfi_adjust_cfa_offset -8
    .cfi_register rip, rcx
    jmpq *%rcx /* processor expects it to return to our caller, not to another */
    .cfi_endproc
    .size switch_stack, .-switch_stack

/* The first function of a stack: it calls entry, which switch_prepare() has put into
 * %rbx. Nobody called it; a backtrace ends here. */
    .globl switch_begin
    .type switch_begin, @function
switch_begin:
    .cfi_startproc
    .cfi_undefined rip
    callq *%rbx
    ud2
    .cfi_endproc
    .size switch_begin, .-switch_begin

#elif defined(__aarch64__) && !defined(SWITCH_UCONTEXT)
    .text
/* [switch.aarch64] */
    .globl switch_stack
    .type switch_stack, @function
switch_stack:
    .cfi_startproc
    stp x29, x30, [sp, #-160]!
    .cfi_adjust_cfa_offset 160
    .cfi_rel_offset x29, 0
    .cfi_rel_offset x30, 8
    stp x19, x20, [sp, #16]
    .cfi_rel_offset x19, 16
    .cfi_rel_offset x20, 24
    stp x21, x22, [sp, #32]
    .cfi_rel_offset x21, 32
    .cfi_rel_offset x22, 40
    stp x23, x24, [sp, #48]
    .cfi_rel_offset x23, 48
    .cfi_rel_offset x24, 56
    stp x25, x26, [sp, #64]
    .cfi_rel_offset x25, 64
    .cfi_rel_offset x26, 72
    stp x27, x28, [sp, #80]
    .cfi_rel_offset x27, 80
    .cfi_rel_offset x28, 88
    stp d8, d9, [sp, #96]
    stp d10, d11, [sp, #112]
    stp d12, d13, [sp, #128]
    stp d14, d15, [sp, #144]
    mov x9, sp
    str x9, [x0]
    mov sp, x1 /* from here on it is the other one's stack */
    ldp x19, x20, [sp, #16]
    ldp x21, x22, [sp, #32]
    ldp x23, x24, [sp, #48]
    ldp x25, x26, [sp, #64]
    ldp x27, x28, [sp, #80]
    ldp d8, d9, [sp, #96]
    ldp d10, d11, [sp, #112]
    ldp d12, d13, [sp, #128]
    ldp d14, d15, [sp, #144]
    ldp x29, x30, [sp], #160
    .cfi_adjust_cfa_offset -160
    .cfi_restore x29
    .cfi_restore x30
    br x30 /* `ret` would be predicted wrong: see above */
    .cfi_endproc
    .size switch_stack, .-switch_stack

/* As above; entry is in x19. */
    .globl switch_begin
    .type switch_begin, @function
switch_begin:
    .cfi_startproc
    .cfi_undefined x30
    blr x19
    brk #1
    .cfi_endproc
    .size switch_begin, .-switch_begin
#endif
    .section .note.GNU-stack, "", %progbits
