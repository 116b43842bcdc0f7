package raftconfig

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/hashicorp/raft"

	"github.com/chainstore/chainstore/internal/durable"
)

// writeLog makes or extends a log store: entries of several sizes, a term, and deleted entries.
func writeLog(t testing.TB, path string, entries int) {
	t.Helper()
	log, err := OpenLog(path)
	if err != nil {
		t.Fatal(err)
	}
	for i := 1; i <= entries; i++ {
		entry := &raft.Log{Index: uint64(i), Term: 1, Data: make([]byte, i*i*97%5000)}
		err := errors.Join(log.StoreLogs([]*raft.Log{entry}), log.SetUint64([]byte("CurrentTerm"), uint64(i)))
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(log.DeleteRange(1, 3), log.Close()); err != nil {
		t.Fatal(err)
	}
}

// TestCheckLog checks that logs in every state of use pass, and that the error of a damaged one says where and what to
// do.
func TestCheckLog(t *testing.T) {
	path := filepath.Join(t.TempDir(), "raft.db")
	for entries := range 40 {
		writeLog(t, path, entries)
		if err := CheckLog(path); err != nil {
			t.Fatalf("%d entries: %v", entries, err)
		}
	}
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		at, size int
		want     string
	}{
		{0, 4096, "meta page 0, at byte 0"}, {4096, 512, "meta page 1, at byte 4096"},
		{8192, len(whole) - 8192, "page "},
	} {
		torn := append(append(append([]byte{}, whole[:c.at]...), make([]byte, c.size)...), whole[c.at+c.size:]...)
		if err := os.WriteFile(path, torn, 0o600); err != nil {
			t.Fatal(err)
		}
		_, err := OpenLog(path)
		if !errors.Is(err, durable.ErrDamaged) || !strings.Contains(err.Error(), c.want) ||
			!strings.Contains(err.Error(), "--join") || !strings.Contains(err.Error(), path) {
			t.Errorf("zeros at %d: %v", c.at, err)
		}
	}
	// An unfinished file of an interrupted start is replaced.
	if err := errors.Join(os.Remove(path), os.WriteFile(path+".new", whole[:100], 0o600)); err != nil {
		t.Fatal(err)
	}
	writeLog(t, path, 2)
}

// FuzzCheckLog checks that package bbolt opens each file that passes CheckLog, and reads it to its end.
func FuzzCheckLog(f *testing.F) {
	path := filepath.Join(f.TempDir(), "raft.db")
	writeLog(f, path, 12)
	whole, err := os.ReadFile(path)
	if err != nil {
		f.Fatal(err)
	}
	whole = whole[:min(len(whole), 20*4096)]
	f.Add(uint32(0), []byte{0})
	f.Add(uint32(3*4096), []byte{0xA5, 0xA5, 0xA5})
	f.Add(uint32(2*4096+8), []byte{1})
	f.Fuzz(func(t *testing.T, at uint32, content []byte) {
		data := append([]byte{}, whole...)
		copy(data[int(at)%len(data):], content)
		path := filepath.Join(t.TempDir(), "raft.db")
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
		log, err := OpenLog(path)
		if err != nil {
			return
		}
		defer log.Close()
		first, err := log.FirstIndex()
		if err != nil {
			t.Fatal(err)
		}
		for i := first; i < first+12; i++ {
			var l raft.Log
			_ = fmt.Sprint(log.GetLog(i, &l)) // the caller checks the content
		}
	})
}
