package durable

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
)

// WriteFile writes data at path. After a crash at any moment the file has either its whole old content or its whole new
// content: WriteFile writes a temporary file beside it, syncs it, renames it, and syncs the folder.
//
// The error wraps [ErrExhausted] if a resource is exhausted and the file at path was not changed. A small file may use
// the reserve of its data folder: see [KeepReserve].
func WriteFile(path string, data []byte, mode os.FileMode) error {
	write := func() error {
		return Write(path, mode, func(w io.Writer) error {
			_, err := w.Write(data)
			return err
		})
	}
	err := write()
	if len(data) <= smallBytes && errors.Is(err, ErrExhausted) && NoSpace(err) && useReserve(path) {
		err = write()
	}
	return err
}

// Write is [WriteFile] for content that is too large for memory: write produces it. Where write fails, the file at
// path is not changed. It does not use the reserve.
func Write(path string, mode os.FileMode, write func(io.Writer) error) (err error) {
	dir := filepath.Dir(path)
	// The folder is opened first: once the file is renamed, nothing may be lacking to sync the folder.
	folder, err := os.Open(dir)
	if err != nil {
		return Unchanged(err)
	}
	defer func() { err = errors.Join(err, folder.Close()) }()
	tmp, err := os.CreateTemp(dir, "."+filepath.Base(path)+".tmp-*")
	if err != nil {
		return Unchanged(err)
	}
	renamed := false
	defer func() {
		if !renamed {
			err = errors.Join(err, tmp.Close(), os.Remove(tmp.Name()))
		}
	}()
	if err := tmp.Chmod(mode); err != nil {
		return err
	}
	if err := write(tmp); err != nil {
		return Unchanged(err)
	}
	if err := tmp.Sync(); err != nil {
		return err
	}
	if err := os.Rename(tmp.Name(), path); err != nil {
		return Unchanged(err)
	}
	renamed = true
	if err := tmp.Close(); err != nil {
		return fmt.Errorf("close %s: %w", path, err)
	}
	return folder.Sync()
}

// unfinished matches the names of the temporary files of [Write].
var unfinished = regexp.MustCompile(`^\..+\.tmp-[0-9]+$`)

// RemoveUnfinished removes the temporary files that writes left in folders when their process was killed. The caller
// must have locked the data folder, and nothing may be written in these folders meanwhile. A missing folder is no
// error. What has another name, or is not a regular file, stays. All are tried; the error is for the log alone.
func RemoveUnfinished(dirs ...string) error {
	var errs []error
	for _, dir := range dirs {
		entries, err := os.ReadDir(dir)
		if err != nil && !Absent(err) {
			errs = append(errs, err)
		}
		for _, e := range entries {
			if e.Type().IsRegular() && unfinished.MatchString(e.Name()) {
				errs = append(errs, os.Remove(filepath.Join(dir, e.Name())))
			}
		}
	}
	return errors.Join(errs...)
}

// ErrNotSynced: a change was made, and the sync of a folder failed, so it may not be durable.
var ErrNotSynced = errors.New("the sync of a folder failed")

// Rename renames a file, folder or link, and syncs the folders of both names. The error wraps [ErrNotSynced] if it was
// renamed, and [ErrExhausted] if it was not because a resource is exhausted.
func Rename(from, to string) (err error) {
	dirs := []string{filepath.Dir(to)}
	if d := filepath.Dir(from); d != dirs[0] {
		dirs = append(dirs, d)
	}
	folders := make([]*os.File, len(dirs))
	for i, dir := range dirs {
		f, err := os.Open(dir)
		if err != nil {
			return Unchanged(err)
		}
		defer func() { err = errors.Join(err, f.Close()) }()
		folders[i] = f
	}
	if err := os.Rename(from, to); err != nil {
		return Unchanged(err)
	}
	for _, f := range folders {
		err = errors.Join(err, f.Sync())
	}
	if err != nil {
		return fmt.Errorf("%w: %w", ErrNotSynced, err)
	}
	return nil
}

// Create writes data into a new file at path, and syncs the file and the folder. Where the name exists, be it a
// dangling link, nothing is changed and the error wraps [os.ErrExist].
func Create(path string, data []byte, mode os.FileMode) (err error) {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, mode)
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return errors.Join(err, os.Remove(path))
	}
	return SyncDir(filepath.Dir(path))
}

// SyncDir makes the creation, removal and renaming of files in a folder durable.
func SyncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// MkdirAll creates a folder, mode 0700, and the folders above it, and syncs each folder that gained an entry.
func MkdirAll(dir string) (err error) {
	if info, err := os.Stat(dir); err == nil {
		if !info.IsDir() {
			return fmt.Errorf("%s is a file, a folder is needed there", dir)
		}
		return nil
	}
	parent := filepath.Dir(dir)
	if parent != dir {
		if err := MkdirAll(parent); err != nil {
			return err
		}
	}
	above, err := os.Open(parent) // first, so that nothing is lacking to sync it
	if err != nil {
		return Unchanged(err)
	}
	defer func() { err = errors.Join(err, above.Close()) }()
	if err := os.Mkdir(dir, 0o700); err != nil && !errors.Is(err, os.ErrExist) {
		return Unchanged(err)
	}
	if err := above.Sync(); err != nil {
		return errors.Join(err, os.Remove(dir)) // else a later call would take the folder for durable
	}
	return nil
}
