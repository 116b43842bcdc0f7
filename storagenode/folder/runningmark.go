package folder

import (
	"errors"
	"fmt"
	"io/fs"
	"os"

	"github.com/chainstore/chainstore/internal/durable"
)

// The file "running" exists while a node uses the folder, and stays when its process ends without Close:
//
//	magic "CSRN" ‖ version u8 = 1 ‖ 0 0 0
var runningFormat = durable.Format{Magic: "CSRN", Version: 1, Zeros: 3}

// IsMarked reports whether the file "running" exists, or something else at its path.
func (d Dir) IsMarked() (bool, error) {
	data, err := durable.ReadFile(d.Running())
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if durable.Absent(err) {
		return true, nil // whether the mark was there is not known
	}
	if err != nil {
		return false, err
	}
	if err := runningFormat.CheckHeader(data); errors.Is(err, durable.ErrNewerFormat) {
		return false, fmt.Errorf("%s: %w", d.Running(), err)
	}
	return true, nil
}

// Mark writes the file "running".
func (d Dir) Mark() error {
	return durable.WriteFile(d.Running(), runningFormat.AppendHeader(nil), 0o600)
}

// Unmark removes it. It is the last step of a clean stop.
func (d Dir) Unmark() error {
	if err := os.Remove(d.Running()); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return durable.SyncDir(string(d))
}
