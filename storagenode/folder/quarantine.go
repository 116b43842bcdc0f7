package folder

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"syscall"

	"github.com/chainstore/chainstore/internal/durable"
)

// freePath returns a path that does not exist, made from another one.
func freePath(base string) (string, error) {
	for i := 0; ; i++ {
		path := fmt.Sprintf("%s.%d", base, i)
		if _, err := os.Lstat(path); errors.Is(err, os.ErrNotExist) {
			return path, nil
		} else if err != nil {
			return "", err
		}
	}
}

// MoveAside moves the file, folder or link at a path to quarantine/, or to a folder of that name beside it if that is
// on another disk, and syncs both folders. It follows no link. The error wraps [durable.ErrNotSynced] if the move was
// made and may not be durable.
func (d Dir) MoveAside(path string) (to string, err error) {
	from := path
	if path == d.Quarantine() { // first out of the way of the folder that receives it
		if from, err = freePath(path); err != nil {
			return "", err
		}
		if err := os.Rename(path, from); err != nil {
			return "", durable.Unchanged(err)
		}
	}
	return d.aside(path, func(to string) error { return durable.Rename(from, to) })
}

// aside calls move with a new path in quarantine/ for the file at a path. If move cannot cross file systems, it is
// called again with one in a folder quarantine beside the file: segments/ may be on another disk.
func (d Dir) aside(path string, move func(to string) error) (to string, err error) {
	for _, folder := range []string{d.Quarantine(), filepath.Join(filepath.Dir(path), filepath.Base(d.Quarantine()))} {
		if err = durable.MkdirAll(folder); err != nil {
			return "", err
		}
		if to, err = freePath(filepath.Join(folder, filepath.Base(path))); err != nil {
			return "", err
		}
		if err = move(to); !errors.Is(err, syscall.EXDEV) {
			break
		}
	}
	if err != nil {
		return "", err
	}
	return to, nil
}

// CopyAside copies bytes to a new file in quarantine/ and syncs it.
func (d Dir) CopyAside(name string, from io.Reader) (path string, err error) {
	if path, err = freePath(filepath.Join(d.Quarantine(), name)); err != nil {
		return "", err
	}
	return path, durable.Write(path, 0o600, func(to io.Writer) error {
		_, err := io.Copy(to, from)
		return err
	})
}

// LinkAside gives the file at a path a second name in quarantine/. A missing file is no error.
func (d Dir) LinkAside(path string) error {
	_, err := d.aside(path, func(to string) error { return link(path, to) })
	return err
}

// link gives the file at a path a second name, and syncs the folder of that.
func link(path, to string) (err error) {
	folder, err := os.Open(filepath.Dir(to))
	if err != nil {
		return durable.Unchanged(err)
	}
	defer func() { err = errors.Join(err, folder.Close()) }()
	if err := os.Link(path, to); err != nil && !errors.Is(err, os.ErrNotExist) {
		return durable.Unchanged(err)
	}
	return folder.Sync()
}
