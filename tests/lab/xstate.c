/*
 * User-Mode Linux 6.12 keeps 2696 bytes of a process's extended registers (HOST_FP_SIZE, arch/x86/um/user-offsets.c).
 * The host refuses to set them with EFAULT unless it is given exactly its own size (xstateregs_set,
 * arch/x86/kernel/fpu/regset.c), which on a CPU with AMX is 11008: the first process then dies, and with it the
 * machine ("ptrace set fp regs failed, errno = 14"). So this library stands before the kernel's ptrace() and fills
 * up with zeros, the registers that no process in the machine can ever use. An LD_PRELOAD, see image.py.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdint.h>
#include <string.h>
#include <sys/uio.h>

enum { GETREGSET = 0x4204, SETREGSET = 0x4205, NT_X86_XSTATE = 0x202, XSTATE_BV = 512, MOST = 65536 };

typedef long (*ptrace_function)(long, long, void *, void *);

static _Alignas(64) char registers[MOST];
static size_t host_size;

long ptrace(long request, long pid, void *address, void *data)
{
	static ptrace_function real;
	if (!real)
		real = (ptrace_function)dlsym(RTLD_NEXT, "ptrace");
	if (request != SETREGSET || (uintptr_t)address != NT_X86_XSTATE)
		return real(request, pid, address, data);
	if (!host_size) {
		struct iovec all = { registers, MOST };
		if (real(GETREGSET, pid, address, &all) < 0)
			return -1;
		memset(registers, 0, MOST);
		host_size = all.iov_len;
	}
	struct iovec *given = data;
	if (given->iov_len >= host_size)
		return real(request, pid, address, data);
	memcpy(registers, given->iov_base, given->iov_len);
	/* AMX's two components, 17 and 18, are in their initial state. */
	*(uint64_t *)(registers + XSTATE_BV) &= ~(UINT64_C(3) << 17);
	struct iovec filled = { registers, host_size };
	return real(request, pid, address, &filled);
}
