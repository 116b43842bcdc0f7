package durable

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"syscall"
	"testing"
)

// TestSyncMark checks that a failed sync is remembered until the machine is started again or an operator overrides it.
func TestSyncMark(t *testing.T) {
	dir := t.TempDir()
	open := func(kernel string, override bool) (*SyncMark, error) { return openSyncMark(dir, override, kernel) }
	mark := func(kernel string, failed error, isSync bool) {
		t.Helper()
		m, err := open(kernel, false)
		if err != nil {
			t.Fatal(err)
		}
		noted, err := m.Note(failed)
		if err := errors.Join(err, m.Close()); err != nil || noted != isSync {
			t.Fatal(noted, err)
		}
	}
	opens := func(kernel string, override bool) {
		t.Helper()
		m, err := open(kernel, override)
		if err != nil {
			t.Fatal(err)
		}
		if m.Overridden() != override || m.Kernel() != kernel {
			t.Errorf("overridden: %v, kernel %q", m.Overridden(), m.Kernel())
		}
		if err := m.Close(); err != nil {
			t.Fatal(err)
		}
	}
	refused := func(kernel string) {
		t.Helper()
		_, err := open(kernel, false)
		if !errors.Is(err, ErrSyncFailed) || !strings.Contains(err.Error(), "input/output error") ||
			!strings.Contains(err.Error(), dir) {
			t.Fatalf("after a failed sync: %v", err)
		}
	}
	failed := fmt.Errorf("append: %w", syscall.EIO)

	mark("one", nil, false)
	// Nothing counts the bytes of a write that failed as stored.
	mark("one", &os.PathError{Op: "write", Path: "x", Err: syscall.ENOSPC}, false)
	opens("one", false)
	mark("one", failed, true)
	refused("one")
	refused("one")
	opens("two", false)
	opens("one", false) // the mark was removed
	mark("one", failed, true)
	refused("one")
	opens("one", true)
	opens("one", false)
	mark("one", failed, true)
	refused("") // the boot id is not known now
	opens("", true)
	mark("", failed, true)
	refused("three") // it was not known then
	if info, err := os.Stat(SyncMarkPath(dir)); err != nil || info.Size() != syncMarkSize ||
		info.Mode() != 0o600 {
		t.Errorf("%v, %v", info, err)
	}
}

// TestSyncMarkOfALongError checks that the mark fits the file, whatever failed.
func TestSyncMarkOfALongError(t *testing.T) {
	dir := t.TempDir()
	m, err := openSyncMark(dir, false, "one")
	if err != nil {
		t.Fatal(err)
	}
	long := strings.Repeat("long\x00", syncMarkSize)
	noted, err := m.Note(&os.PathError{Op: "sync", Path: long, Err: syscall.EIO})
	again, errAgain := m.Note(syscall.ENOSPC)
	if err := errors.Join(err, errAgain, m.Close()); err != nil || !noted || !again {
		t.Fatal(noted, err)
	}
	if _, err := openSyncMark(dir, false, "one"); !errors.Is(err, ErrSyncFailed) ||
		strings.Contains(err.Error(), "no space") { // the first one stays
		t.Error(err)
	}
	if info, err := os.Stat(SyncMarkPath(dir)); err != nil || info.Size() != syncMarkSize {
		t.Errorf("%v, %v", info, err)
	}
}

// TestSyncMarkThatCannotBeWritten checks that this is reported, and once.
func TestSyncMarkThatCannotBeWritten(t *testing.T) {
	m, err := openSyncMark(t.TempDir(), false, "one")
	if err != nil {
		t.Fatal(err)
	}
	if err := m.file.Close(); err != nil {
		t.Fatal(err)
	}
	if isSync, err := m.Note(syscall.EIO); !isSync || !errors.Is(err, os.ErrClosed) {
		t.Error(isSync, err)
	}
	if isSync, err := m.Note(syscall.EIO); !isSync || err != nil {
		t.Error(isSync, err)
	}
	if why, written := m.Noted(); why != syscall.EIO.Error() || written {
		t.Error(why, written)
	}
}

// TestSyncMarkOfARunningProcess checks that a second process does not remove the mark of the first.
func TestSyncMarkOfARunningProcess(t *testing.T) {
	dir := t.TempDir()
	m, err := openSyncMark(dir, false, "one")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := openSyncMark(dir, true, "one"); !errors.Is(err, ErrLocked) {
		t.Error(err)
	}
	if err := m.Close(); err != nil {
		t.Fatal(err)
	}
}

// TestSyncMarkNeedsItsFile checks that a folder in which the mark cannot be written is not used.
func TestSyncMarkNeedsItsFile(t *testing.T) {
	dir := t.TempDir()
	if err := os.Mkdir(SyncMarkPath(dir), 0o700); err != nil {
		t.Fatal(err)
	}
	if _, err := OpenSyncMark(dir, true); !errors.Is(err, ErrNotFile) {
		t.Errorf("a folder in its place: %v", err)
	}
}

// TestIsSync checks which errors are those of a sync.
func TestIsSync(t *testing.T) {
	f, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		err  error
		want bool
	}{
		{nil, false},
		{errors.New("other"), false},
		{syscall.EIO, true},
		{fmt.Errorf("a: %w", syscall.EIO), true},
		{&os.PathError{Op: "sync", Err: syscall.EIO}, true},
		{&os.PathError{Op: "fdatasync", Err: syscall.EIO}, true},
		{&os.PathError{Op: "write", Err: syscall.EIO}, false},
		{syscall.ENOMEM, false},
		{syscall.ENOSPC, true},
		{syscall.EROFS, true},
		{syscall.ESTALE, true},
		{errors.Join(&os.PathError{Op: "write", Err: syscall.EIO}, &os.PathError{Op: "sync", Err: syscall.EIO}), true},
		{&os.PathError{Op: "truncate", Err: syscall.ENOSPC}, false},
		{&os.LinkError{Op: "rename", Err: syscall.EIO}, false},
		{os.NewSyscallError("bind", syscall.EADDRINUSE), false},
		{f.Sync(), true}, // the name that package os gives it
	} {
		if got := IsSync(test.err); got != test.want {
			t.Errorf("%v: %v", test.err, got)
		}
		if retry := fmt.Errorf("%w: %w", ErrExhausted, errors.Join(test.err)); CanRetry(retry) == test.want {
			t.Errorf("%v: it can be retried: %v", retry, !test.want)
		}
	}
}

// TestTornSyncMark checks that a mark that cannot be understood counts as one of this boot.
func TestTornSyncMark(t *testing.T) {
	dir := t.TempDir()
	for name, content := range map[string]string{
		"0xA5": strings.Repeat("\xa5", 4096), "its first bytes are zeros": "\x00\x00\x00boot\nappend: EIO",
		"its end is missing": "boo",
	} {
		if err := os.WriteFile(SyncMarkPath(dir), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := openSyncMark(dir, false, "now"); !errors.Is(err, ErrSyncFailed) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
