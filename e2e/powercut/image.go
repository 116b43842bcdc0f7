package powercut

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
)

// Load returns the model of a real folder all of which is durable.
func Load(dir string) (*Disk, error) {
	d := New(dir)
	return d, load(d.root, dir)
}

func load(n *node, dir string) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		path, child := filepath.Join(dir, e.Name()), &node{}
		switch {
		case e.IsDir():
			child = newFolder()
			err = load(child, path)
		case e.Type().IsRegular():
			child.data, err = os.ReadFile(path)
			child.synced = bytes.Clone(child.data)
		default:
			err = fmt.Errorf("%s is neither a file nor a folder", path)
		}
		if err != nil {
			return err
		}
		n.entries[e.Name()], n.syncedEntries[e.Name()] = child, child
	}
	return nil
}

// Compare returns an error if processes see something else in the real folder than in the model.
func (d *Disk) Compare() error {
	real, err := Load(d.dir)
	if err != nil {
		return err
	}
	return errors.Join(compare(real.root, d.root, d.dir)...)
}

func compare(real, model *node, path string) (wrong []error) {
	switch {
	case real == nil:
		return []error{fmt.Errorf("only the model has %s", path)}
	case model == nil:
		return []error{fmt.Errorf("the model does not have %s", path)}
	case real.folder() != model.folder():
		return []error{fmt.Errorf("%s is a folder in one of model and file system", path)}
	case !real.folder() && !bytes.Equal(real.data, model.data):
		at := 0
		for at < min(len(real.data), len(model.data)) && real.data[at] == model.data[at] {
			at++
		}
		return []error{fmt.Errorf("%s has %d bytes, the model %d; they differ from byte %d on",
			path, len(real.data), len(model.data), at)}
	}
	names := maps.Clone(real.entries)
	maps.Copy(names, model.entries)
	for _, name := range slices.Sorted(maps.Keys(names)) {
		wrong = append(wrong, compare(real.entries[name], model.entries[name], filepath.Join(path, name))...)
	}
	return wrong
}

// Write writes the folder as a power cut leaves it. keep decides for each change that was not synced whether the device
// has it all the same. Pages of a file reach the device in any order, changes of a folder in theirs.
func (d *Disk) Write(dir string, keep func() bool) error {
	return write(d.root, dir, keep, map[*node]string{})
}

func write(n *node, path string, keep func() bool, written map[*node]string) error {
	if first, ok := written[n]; ok {
		return os.Link(first, path)
	}
	written[n] = path
	if !n.folder() {
		data := bytes.Clone(n.synced)
		for _, c := range n.changes {
			if keep() {
				data = c.data(data)
			}
		}
		return os.WriteFile(path, data, 0o600)
	}
	if err := os.Mkdir(path, 0o700); err != nil {
		return err
	}
	entries := maps.Clone(n.syncedEntries)
	for _, c := range n.changes {
		if !keep() {
			break
		}
		c.entries(entries)
	}
	for _, name := range slices.Sorted(maps.Keys(entries)) {
		if err := write(entries[name], filepath.Join(path, name), keep, written); err != nil {
			return err
		}
	}
	return nil
}
