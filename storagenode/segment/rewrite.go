package segment

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"syscall"

	"github.com/chainstore/chainstore/internal/durable"
)

// NewSuffix marks a segment that is being rewritten. A start removes it.
const NewSuffix = ".new"

// Sizes of the reads of a rewrite, in bytes.
const (
	copyBytes = 1 << 20
	pageBytes = 4096
)

// Rewrite makes all of a segment durable, whatever happened to earlier syncs of it. It copies the bytes to a new file,
// syncs that and renames it into place. A sync of the old file would not do: after a failed one the kernel takes the
// pages that it could not write as written. On a full disk Rewrite writes the same bytes in place instead, and syncs
// them. A failed sync of the new file is returned even then: it must be remembered.
//
// Pages that the device cannot read are zero in the new file. keep is called before the old file is replaced then.
func Rewrite(open OpenFunc, dir string, first uint64, keep func(path string) error) error {
	path := filepath.Join(dir, Name(first))
	err := copyToNew(open, path, keep)
	if durable.NoSpace(err) && !durable.IsSync(err) {
		err = rewriteInPlace(open, path)
	}
	if err == nil {
		err = durable.SyncDir(dir)
	}
	if err != nil {
		return fmt.Errorf("write %s again: %w", path, err)
	}
	return nil
}

func copyToNew(open OpenFunc, path string, keep func(string) error) error {
	old, err := open(path, os.O_RDONLY)
	if err != nil {
		return err
	}
	defer func() { _ = old.Close() }() // only read
	to, err := open(path+NewSuffix, os.O_RDWR|os.O_CREATE|os.O_TRUNC)
	if err != nil {
		return err
	}
	unread, err := copyPages(to, old)
	if err == nil {
		err = to.Sync()
	}
	if err = errors.Join(err, to.Close()); err != nil {
		return errors.Join(err, os.Remove(path+NewSuffix))
	}
	if unread {
		if err := keep(path); err != nil {
			return err
		}
	}
	return os.Rename(path+NewSuffix, path)
}

func rewriteInPlace(open OpenFunc, path string) error {
	f, err := open(path, os.O_RDWR)
	if err != nil {
		return err
	}
	if _, err = copyPages(f, f); err == nil {
		err = f.Sync()
	}
	return errors.Join(err, f.Close())
}

// copyPages copies all bytes of a file to the same offsets of another, or of itself. It passes over pages that the
// device cannot read, and reports whether there are any.
func copyPages(to, from File) (unread bool, err error) {
	info, err := from.Stat()
	if err != nil {
		return false, err
	}
	size := info.Size()
	if to != from {
		if err := to.Truncate(size); err != nil {
			return false, err
		}
	}
	buf := make([]byte, min(copyBytes, size))
	for at := int64(0); at < size; {
		part := buf[:min(int64(len(buf)), size-at)]
		if unread {
			part = part[:min(len(part), pageBytes)]
		}
		_, err := from.ReadAt(part, at)
		switch {
		case err == nil:
			if _, err := to.WriteAt(part, at); err != nil {
				return unread, err
			}
		case !errors.Is(err, syscall.EIO):
			if errors.Is(err, io.EOF) {
				err = io.ErrUnexpectedEOF
			}
			return unread, err
		case !unread: // again, page by page
			unread = true
			continue
		}
		at += int64(len(part))
	}
	return unread, nil
}
