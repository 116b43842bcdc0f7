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

// badFile fails reads of one page, and writes and syncs with an error.
type badFile struct {
	File
	page   int64 // offset of the page that cannot be read, -1 for none
	full   error // of a write
	fails  error // of Sync
	synced *int
}

func (f badFile) WriteAt(data []byte, at int64) (int, error) {
	if f.full != nil {
		return 0, &os.PathError{Op: "write", Path: "segment", Err: f.full}
	}
	return f.File.WriteAt(data, at)
}

func (f badFile) ReadAt(data []byte, at int64) (int, error) {
	if f.page >= 0 && at < f.page+pageBytes && at+int64(len(data)) > f.page {
		return 0, syscall.EIO
	}
	return f.File.ReadAt(data, at)
}

func (f badFile) Sync() error {
	if f.fails != nil {
		return &os.PathError{Op: "sync", Path: "segment", Err: f.fails}
	}
	*f.synced++
	return f.File.Sync()
}

// TestRewrite rewrites a segment: a good one, one with a page that cannot be read, and one on a full disk.
func TestRewrite(t *testing.T) {
	content := bytes.Repeat([]byte("0123456789abcdef"), 3*pageBytes/16)
	content = append(content, "the end"...)
	hole := bytes.Clone(content)
	clear(hole[pageBytes : 2*pageBytes])
	for name, test := range map[string]struct {
		page  int64
		full  error // of a write to the new file
		fails error // of a sync of it
		want  []byte
		same  bool // the old file stays
		keeps int
		err   error
	}{
		"good":         {page: -1, want: content},
		"unreadable":   {page: pageBytes, want: hole, keeps: 1},
		"full":         {page: -1, full: syscall.ENOSPC, want: content, same: true},
		"quota":        {page: -1, full: syscall.EDQUOT, want: content, same: true},
		"sync failed":  {page: -1, fails: syscall.EIO, want: content, same: true, err: syscall.EIO},
		"sync, full":   {page: -1, fails: syscall.ENOSPC, want: content, same: true, err: syscall.ENOSPC},
		"sync, quota":  {page: -1, fails: syscall.EDQUOT, want: content, same: true, err: syscall.EDQUOT},
		"unread, full": {page: pageBytes, full: syscall.ENOSPC, want: content, same: true},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			path := filepath.Join(dir, Name(0))
			if err := os.WriteFile(path, content, 0o600); err != nil {
				t.Fatal(err)
			}
			before, err := os.Stat(path)
			if err != nil {
				t.Fatal(err)
			}
			keeps, synced := 0, 0
			open := func(path string, flag int) (File, error) {
				f, err := OpenFile(path, flag)
				b := badFile{File: f, page: -1, synced: &synced}
				if filepath.Ext(path) == NewSuffix {
					b.full, b.fails = test.full, test.fails
				} else {
					b.page = test.page
				}
				return b, err
			}
			err = Rewrite(open, dir, 0, func(string) error { keeps++; return nil })
			if !errors.Is(err, test.err) || durable.IsSync(err) != (test.err != nil) {
				t.Fatal(err)
			}
			got, readErr := os.ReadFile(path)
			after, statErr := os.Stat(path)
			if err := errors.Join(readErr, statErr); err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(got, test.want) || os.SameFile(before, after) != test.same || keeps != test.keeps {
				t.Errorf("%d bytes, the same file: %v, kept %d times", len(got), os.SameFile(before, after), keeps)
			}
			if want := 1; test.err == nil && synced != want {
				t.Errorf("%d syncs, want %d", synced, want)
			}
			if entries, err := os.ReadDir(dir); err != nil || len(entries) != 1 {
				t.Errorf("the folder has %v, %v", entries, err)
			}
		})
	}
}
