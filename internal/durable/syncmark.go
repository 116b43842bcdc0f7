package durable

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"syscall"
)

// ErrSyncFailed: a sync of the folder failed since the machine was started. The page cache may have bytes that the
// device does not have, and no later sync would write them.
var ErrSyncFailed = errors.New("a sync of this folder failed since the machine was started, so the kernel may show " +
	"data that is not on the disk")

// SyncMark remembers in a data folder that a sync failed, until the machine is started again. It is the file
// "failed-sync", mode 0600, of 4096 bytes: zeros, or the kernel's boot id, a line feed, what failed, and zeros.
//
// The file has its full size before it is needed, so that a full disk does not prevent the mark. It is locked, so that
// a second process cannot remove a mark of the first one.
type SyncMark struct {
	path       string
	kernel     string
	overridden bool // an operator has removed the mark

	mu      sync.Mutex
	file    *os.File // nil after Close
	noted   string   // the first failed sync
	written bool     // the mark of it is on the disk
}

const syncMarkSize = 4096

// bootID is a boot id in the mark. Anything else in its place, "" too, counts as that of this one.
var bootID = regexp.MustCompile(`^[!-~]{1,64}$`)

// SyncMarkPath returns the path of the file in a data folder.
func SyncMarkPath(dir string) string { return filepath.Join(dir, "failed-sync") }

// KernelBoot returns the boot id of the kernel, which changes when the machine is started. It is "" where the kernel
// does not show one.
func KernelBoot() string {
	//mutant:kernel-boot
	path := "/proc/sys/kernel/random/boot_id"
	id, err := os.ReadFile(path)
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(id))
}

// OpenSyncMark opens the mark of a folder, which it creates if it is missing. The error wraps [ErrSyncFailed] if a sync
// failed since the machine was started; override removes that mark. Where the kernel shows no boot id, every mark
// counts. A folder in which the mark cannot be written and synced must not be used: the error is that of the disk. The
// error wraps [ErrLocked] if another process uses the folder.
func OpenSyncMark(dir string, override bool) (*SyncMark, error) {
	return openSyncMark(dir, override, KernelBoot())
}

func openSyncMark(dir string, override bool, kernel string) (_ *SyncMark, err error) {
	if err := MkdirAll(dir); err != nil {
		return nil, err
	}
	m := &SyncMark{path: SyncMarkPath(dir), kernel: kernel, overridden: override}
	if m.file, err = flock(OpenFile(m.path, os.O_RDWR|os.O_CREATE, 0o600)); err != nil {
		return nil, lockError(dir, err)
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, m.Close())
		}
	}()
	content, err := io.ReadAll(io.LimitReader(m.file, syncMarkSize+1))
	if err != nil {
		return nil, err
	}
	text := string(bytes.TrimRight(content, "\x00"))
	boot, why, complete := strings.Cut(text, "\n")
	if text != "" && !override && (boot == kernel || !complete || !bootID.MatchString(boot) || kernel == "") {
		return nil, SyncFailedError(dir, why)
	}
	// The file is written at each start. So a folder is not used while a later failure could not be remembered in it.
	err = m.write("")
	if err != nil {
		err = fmt.Errorf("%s must be writable, to remember a failed sync: %w", m.path, err)
	} else {
		err = SyncDir(dir)
	}
	if err == nil {
		return m, nil
	}
	if _, markErr := m.Note(err); markErr != nil {
		err = errors.Join(err, markErr)
	}
	return nil, err
}

// SyncFailedError returns the error that refuses to use a folder. why says which sync failed.
func SyncFailedError(dir, why string) error {
	return fmt.Errorf("%w (%s: %s): check the disk and start the machine again, or see 'After a failed sync' in "+
		"docs/operations.md", ErrSyncFailed, dir, why)
}

// write replaces the content, and syncs it. The caller holds mu, or is the only one.
func (m *SyncMark) write(text string) error {
	content := make([]byte, syncMarkSize)
	copy(content, text)
	_, err := m.file.WriteAt(content, 0)
	if err == nil {
		err = m.file.Truncate(syncMarkSize)
	}
	if err == nil {
		err = m.file.Sync()
	}
	return err
}

// Kernel returns the boot id that the mark names.
func (m *SyncMark) Kernel() string {
	if m == nil {
		return KernelBoot()
	}
	return m.kernel
}

// Overridden reports whether an operator has removed the mark for this start.
func (m *SyncMark) Overridden() bool { return m != nil && m.overridden }

// Note writes the mark if the error is that of a sync, or contains one, and reports whether it is. The first one stays.
// The error says that the mark could not be written, or not be synced: then it may be lost. It is returned once.
func (m *SyncMark) Note(failed error) (isSync bool, err error) {
	if m == nil || !IsSync(failed) {
		return false, nil
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	before := m.noted
	if before == "" {
		m.noted = strings.NewReplacer("\x00", " ", "\n", "; ").Replace(failed.Error())
	}
	if m.written {
		return true, nil
	}
	err = os.ErrClosed
	if m.file != nil {
		err = m.write(m.kernel + "\n" + m.noted)
	}
	m.written = err == nil
	if err == nil || before != "" {
		return true, nil
	}
	return true, fmt.Errorf("this cannot be remembered in %s, so start the machine again: %w", m.path, err)
}

// Noted returns the first failed sync, "" if there was none, and whether the mark of it is on the disk.
func (m *SyncMark) Noted() (why string, written bool) {
	if m == nil {
		return "", false
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.noted, m.written
}

// Close closes the file. It may be called more than once.
func (m *SyncMark) Close() error {
	if m == nil {
		return nil
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.file == nil {
		return nil
	}
	err := m.file.Close()
	m.file = nil
	return err
}

// notSync are the numbers that mmap(2), flock(2) and open(2) return, and a sync of an open file does not.
var notSync = []error{
	syscall.EACCES, syscall.EAGAIN, syscall.EBADF, syscall.EINTR, syscall.EINVAL, syscall.EMFILE, syscall.ENFILE,
	syscall.ENODEV, syscall.ENOENT, syscall.ENOMEM, syscall.ENOTDIR, syscall.EOVERFLOW, syscall.EPERM,
}

// IsSync reports whether an error is that of a sync of a file or folder, or contains one. Package bbolt returns the
// error of fdatasync(2) as a bare number; the errors of other operations on files name them. A number that other calls
// return bare, such as ENOMEM of mmap(2), does not count.
func IsSync(err error) bool {
	switch e := err.(type) {
	case *os.PathError:
		return e.Op == "sync" || e.Op == "fdatasync"
	case *os.LinkError, *os.SyscallError:
		return false
	case syscall.Errno:
		return !isAny(e, notSync)
	case interface{ Unwrap() []error }:
		return slices.ContainsFunc(e.Unwrap(), IsSync)
	case interface{ Unwrap() error }:
		return IsSync(e.Unwrap())
	}
	return false
}
