package segment

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/chainstore/chainstore/internal/durable"
)

// TestOpenExisting checks that a path without a segment gives nil, whatever is there.
func TestOpenExisting(t *testing.T) {
	dir := t.TempDir()
	write(t, dir, 7, blockOf(1, 0))
	for name, put := range map[string]func(path string) error{
		"missing": func(string) error { return nil },
		"folder":  func(path string) error { return os.Mkdir(path, 0o700) },
		"pipe":    func(path string) error { return syscall.Mkfifo(path, 0o600) },
	} {
		path := filepath.Join(dir, name)
		if err := put(path); err != nil {
			t.Fatal(err)
		}
		if f, err := OpenExisting(OpenFile, path); f != nil || err != nil {
			t.Errorf("%s: %v, %v", name, f, err)
		}
	}
	f, err := OpenExisting(OpenFile, filepath.Join(dir, Name(7)))
	if err != nil || f == nil {
		t.Fatal(f, err)
	}
	if err := f.Close(); err != nil {
		t.Error(err)
	}
	denied := errors.New("denied")
	if _, err := OpenExisting(func(string, int) (File, error) { return nil, denied }, "x"); !errors.Is(err, denied) {
		t.Errorf("an error of the disk is %v", err)
	}
}

// TestBeginAndRestoreHeader checks that a file that is begun again has only a header, and that restoring a damaged
// header keeps the frames.
func TestBeginAndRestoreHeader(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, Name(3))
	write(t, dir, 3, blockOf(1, 5), blockOf(2, 0))
	good, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for at := range HeaderSize {
		bad := bytes.Clone(good)
		bad[at] ^= 0x40
		if CheckHeader(bytes.NewReader(bad), 3) == nil {
			t.Errorf("byte %d: the header is good", at)
		}
		if err := os.WriteFile(path, bad, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := RestoreHeader(OpenFile, path, 3); err != nil {
			t.Fatal(err)
		}
		if got, err := os.ReadFile(path); err != nil || !bytes.Equal(got, good) {
			t.Errorf("byte %d: %x, %v", at, got, err)
		}
	}
	f, err := WriteHeader(OpenFile, nil, path, os.O_CREATE|os.O_TRUNC, 3)
	if err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	if got, err := os.ReadFile(path); err != nil || !bytes.Equal(got, good[:HeaderSize]) {
		t.Errorf("%x, %v", got, err)
	}
	for name, err := range map[string]error{
		"a header of a missing file": RestoreHeader(OpenFile, path+".gone", 3),
		"a file that exists":         errorOf(Create(OpenFile, nil, dir, 3)),
		"in a missing folder":        errorOf(Create(OpenFile, nil, filepath.Join(dir, "none"), 3)),
	} {
		if err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

func errorOf(_ *Writer, err error) error { return err }

// failing is a file with one failing operation.
type failing struct {
	File
	op string
}

var errDisk = errors.New("no space")

func (f failing) WriteAt(b []byte, at int64) (int, error) {
	if f.op == "write" && at >= HeaderSize || f.op == "payload" && at >= HeaderSize+FrameHeader || f.op == "header" {
		return 0, errDisk
	}
	return f.File.WriteAt(b, at)
}

func (f failing) Sync() error {
	if f.op == "sync" {
		return errDisk
	}
	return f.File.Sync()
}

func (f failing) DataSync() error {
	if f.op == "datasync" {
		return errDisk
	}
	return f.File.DataSync()
}

// TestWritesThatFail checks that each failed operation is reported, and that a working writer keeps what it wrote.
func TestWritesThatFail(t *testing.T) {
	for _, op := range []string{"", "header", "sync", "write", "payload", "datasync"} {
		open := func(path string, flag int) (File, error) {
			f, err := OpenFile(path, flag)
			return failing{f, op}, err
		}
		w, err := Create(open, nil, t.TempDir(), 5)
		if early := op == "header" || op == "sync"; early != errors.Is(err, errDisk) {
			t.Errorf("%s: Create: %v", op, err)
		} else if early {
			continue
		}
		offset, err := w.Write(blockOf(1, 3))
		if bad := op == "write" || op == "payload"; bad != errors.Is(err, errDisk) || !bad && offset != HeaderSize {
			t.Errorf("%s: Write: %d, %v", op, offset, err)
		}
		if err := w.Sync(); errors.Is(err, errDisk) != (op == "datasync") {
			t.Errorf("%s: Sync: %v", op, err)
		}
		info, err := w.Stat()
		if err != nil || op == "" && info.Size() != w.Size() || w.First() != 5 {
			t.Errorf("%s: %v bytes, not %d: %v", op, info, w.Size(), err)
		}
		if err := w.Close(); err != nil {
			t.Error(err)
		}
	}
}

// TestAppendFrame checks that a frame can be read back, and that its length can be restored.
func TestAppendFrame(t *testing.T) {
	block := blockOf(9, 4)
	frame := AppendFrame([]byte("before"), block)[len("before"):]
	got, err := ReadFrame(nil, bytes.NewReader(frame), 0, uint32(len(block)))
	if err != nil || !bytes.Equal(got, frame) {
		t.Errorf("%x, %v", got, err)
	}
	frame[1] ^= 1
	if _, err := ReadFrame(nil, bytes.NewReader(frame), 0, uint32(len(block))); !errors.Is(err, durable.ErrDamaged) {
		t.Errorf("a wrong length: %v", err)
	}
	SetLength(frame, uint32(len(block)))
	if _, err := ReadFrame(nil, bytes.NewReader(frame), 0, uint32(len(block))); err != nil {
		t.Error(err)
	}
}
