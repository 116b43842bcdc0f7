package powercut

import (
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// filterArgument is the first argument of a process that [RunFiltered] turns into another one.
const filterArgument = "powercut-filter-syncs"

// FilteredCommand is like [Command], for a program whose syncs are decided by [DecideSyncs]. The program that calls
// FilteredCommand must call [RunFiltered] first of all, since it precedes the others on the command line. socket is the
// path of a Unix socket that accepts one connection.
func FilteredCommand(trace, socket string) ([]string, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	// With a filter of its own, strace would not see the calls that this one selects.
	traced := slices.DeleteFunc(Command(trace, ""), func(arg string) bool { return arg == "--seccomp-bpf" })
	return append([]string{self, filterArgument, socket}, traced...), nil
}

// RunFiltered does nothing unless this process was started by a [FilteredCommand]. Then it sends the descriptor for the
// decisions to the socket, and executes the rest of the command line. It returns only if that fails.
func RunFiltered() error {
	if len(os.Args) < 4 || os.Args[1] != filterArgument {
		return nil
	}
	return fmt.Errorf("filter the syncs of %s: %w", os.Args[3], runFiltered(os.Args[2], os.Args[3:]))
}

func runFiltered(socket string, line []string) error {
	program, err := exec.LookPath(line[0])
	if err != nil {
		return err
	}
	c, err := net.DialUnix("unix", nil, &net.UnixAddr{Name: socket, Net: "unix"})
	if err != nil {
		return err
	}
	runtime.LockOSThread() // the filter is that of the thread
	listener, err := filterSyncs()
	if err != nil {
		return err
	}
	if _, _, err := c.WriteMsgUnix([]byte{0}, unix.UnixRights(listener), nil); err != nil {
		return err
	}
	if err := errors.Join(c.Close(), unix.Close(listener)); err != nil {
		return err
	}
	return syscall.Exec(program, line, os.Environ())
}

// filterSyncs makes each sync of this thread, and of the program that it executes, wait for a decision. It returns the
// descriptor from which the decisions are requested. See seccomp(2) and seccomp_unotify(2).
func filterSyncs() (int, error) {
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return 0, fmt.Errorf("set no_new_privs: %w", err)
	}
	code := []unix.SockFilter{
		{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: 0}, // the number of the system call
		{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, Jt: 2, K: unix.SYS_FSYNC},
		{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, Jt: 1, K: unix.SYS_FDATASYNC},
		{Code: unix.BPF_RET | unix.BPF_K, K: unix.SECCOMP_RET_ALLOW},
		{Code: unix.BPF_RET | unix.BPF_K, K: unix.SECCOMP_RET_USER_NOTIF},
	}
	program := unix.SockFprog{Len: uint16(len(code)), Filter: &code[0]}
	listener, _, errno := unix.Syscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER,
		unix.SECCOMP_FILTER_FLAG_NEW_LISTENER, uintptr(unsafe.Pointer(&program)))
	if errno != 0 {
		return 0, fmt.Errorf("seccomp: %w", errno)
	}
	return int(listener), nil
}

// request is struct seccomp_notif.
type request struct {
	id       uint64
	thread   uint32
	flags    uint32
	number   int32
	arch     uint32
	at       uint64
	argument [6]uint64
}

// decision is struct seccomp_notif_resp.
type decision struct {
	id    uint64
	value int64
	errno int32
	flags uint32
}

// DecideSyncs decides each sync of the process that a [FilteredCommand] starts, until the process has ended. A sync
// fails with EIO if fails returns true for the path of the file or folder, and is carried out otherwise.
func DecideSyncs(l *net.UnixListener, fails func(path string) bool) error {
	listener, err := receive(l)
	if err != nil {
		return err
	}
	defer func() { _ = unix.Close(listener) }()
	for {
		ready := []unix.PollFd{{Fd: int32(listener), Events: unix.POLLIN}}
		switch _, err := unix.Poll(ready, -1); {
		case errors.Is(err, unix.EINTR):
			continue
		case err != nil:
			return fmt.Errorf("poll: %w", err)
		case ready[0].Revents&unix.POLLIN == 0: // all have ended
			return nil
		}
		var r request
		err := control(listener, unix.SECCOMP_IOCTL_NOTIF_RECV, unsafe.Pointer(&r))
		if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.EINTR) { // the thread has ended, or got a signal
			continue
		}
		if err != nil {
			return fmt.Errorf("receive a system call: %w", err)
		}
		d := decision{id: r.id, flags: unix.SECCOMP_USER_NOTIF_FLAG_CONTINUE}
		path, err := os.Readlink(fmt.Sprintf("/proc/%d/fd/%d", r.thread, r.argument[0]))
		if err == nil && fails(path) {
			d.flags, d.errno = 0, -int32(unix.EIO)
		}
		err = control(listener, unix.SECCOMP_IOCTL_NOTIF_SEND, unsafe.Pointer(&d))
		if err != nil && !errors.Is(err, unix.ENOENT) {
			return fmt.Errorf("decide a system call: %w", err)
		}
	}
}

// receive receives a descriptor over the first connection.
func receive(l *net.UnixListener) (int, error) {
	c, err := l.AcceptUnix()
	if err != nil {
		return 0, err
	}
	defer func() { _ = c.Close() }()
	data, control := make([]byte, 1), make([]byte, unix.CmsgSpace(4))
	_, n, _, _, err := c.ReadMsgUnix(data, control)
	if err != nil {
		return 0, err
	}
	messages, err := unix.ParseSocketControlMessage(control[:n])
	if err != nil || len(messages) != 1 {
		return 0, fmt.Errorf("receive a descriptor: %d messages: %w", len(messages), err)
	}
	descriptors, err := unix.ParseUnixRights(&messages[0])
	if err != nil || len(descriptors) != 1 {
		return 0, fmt.Errorf("receive a descriptor: %d came: %w", len(descriptors), err)
	}
	return descriptors[0], nil
}

func control(descriptor int, operation uint, argument unsafe.Pointer) error {
	_, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(descriptor), uintptr(operation), uintptr(argument))
	if errno != 0 {
		return errno
	}
	return nil
}
