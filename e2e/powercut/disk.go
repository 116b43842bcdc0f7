package powercut

import (
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// Disk is the model of a folder. The zero value is not usable; use New.
type Disk struct {
	dir  string
	root *node
	made map[string]bool // names that were made since New or Load
	// Of the process whose trace is replayed.
	descriptors map[int]*descriptor
	synced      map[string]bool // names whose sync was carried out or failed
	failed      string          // the name whose sync failed first, "" for none
}

// node is a file or a folder.
type node struct {
	// What processes see: the content of a file, or the entries of a folder.
	data    []byte
	entries map[string]*node // nil for a file
	// What the device has.
	synced        []byte
	syncedEntries map[string]*node
	changes       []change // since the last sync
	before        int      // the number of changes before these
}

// change is a change that no sync has made durable. Exactly one part is in use.
type change struct {
	data    func([]byte) []byte
	entries func(map[string]*node)
}

type descriptor struct {
	node   *node
	at     int64 // the position of reads and writes without an offset
	append bool
}

// New returns the model of an empty folder, which itself is durable. The folder must be an absolute path.
func New(dir string) *Disk { return &Disk{dir: dir, root: newFolder(), made: map[string]bool{}} }

func newFolder() *node { return &node{entries: map[string]*node{}, syncedEntries: map[string]*node{}} }

func (n *node) folder() bool { return n.entries != nil }

func (n *node) change(c change) {
	if c.data != nil {
		n.data = c.data(n.data)
	} else {
		c.entries(n.entries)
	}
	n.changes = append(n.changes, c)
}

// sync makes the first changes durable, or drops them if the sync failed. end is the number of all changes before it
// began.
func (n *node) sync(end int, failed bool) {
	count := max(0, end-n.before) // another sync may have been faster
	for _, c := range n.changes[:count] {
		switch {
		case failed:
		case c.data != nil:
			n.synced = c.data(n.synced)
		default:
			c.entries(n.syncedEntries)
		}
	}
	n.changes, n.before = n.changes[count:], n.before+count
}

// Replay carries out the calls of one process that has ended.
func (d *Disk) Replay(trace io.Reader) error {
	d.descriptors, d.synced, d.failed = map[int]*descriptor{}, map[string]bool{}, ""
	return readTrace(trace, d.enter, d.leave)
}

// Made lists the files that were created, renamed or linked since New or Load, relative to the folder.
func (d *Disk) Made() []string { return slices.Sorted(maps.Keys(d.made)) }

// Synced lists the files and folders that the last process synced or tried to sync, relative to the folder. The names
// of folders end in a slash; that of the folder itself is "./".
func (d *Disk) Synced() []string { return slices.Sorted(maps.Keys(d.synced)) }

// FirstFailed returns the name of the file or folder whose sync was the first to fail in the last process, as Synced
// does. It is "" if none failed.
func (d *Disk) FirstFailed() string { return d.failed }

// noteSync notes that a sync of a file or folder has ended.
func (d *Disk) noteSync(n *node, path string, failed bool) {
	name := strings.TrimPrefix(path, d.dir+"/")
	if path == d.dir {
		name = "."
	}
	if n.folder() {
		name += "/"
	}
	d.synced[name] = true
	if failed && d.failed == "" {
		d.failed = name
	}
}

// add is the change that adds a name to its folder.
func (d *Disk) add(p place, n *node) change {
	d.made[strings.TrimPrefix(p.path, d.dir+"/")] = true
	return change{entries: func(e map[string]*node) { e[p.name] = n }}
}

// enter closes descriptors: from this moment on, another thread may get their numbers. It notes what a sync covers.
func (d *Disk) enter(c *call) error {
	if c.name != "close" && c.name != "fsync" && c.name != "fdatasync" {
		return nil
	}
	fd, _, err := c.descriptor(0)
	if f := d.descriptors[fd]; f != nil {
		c.began = f.node.before + len(f.node.changes)
	}
	if c.name == "close" {
		delete(d.descriptors, fd)
	}
	return err
}

// leave carries out a call that has ended. If the process ended within it, the real folder says whether it was carried
// out.
func (d *Disk) leave(c call) error {
	var err error
	switch c.name {
	case "openat":
		err = d.open(c)
	case "renameat":
		err = d.rename(c)
	case "linkat":
		err = d.link(c)
	case "unlinkat":
		err = d.unlink(c)
	case "mkdirat":
		err = d.makeFolder(c)
	case "lseek", "fsync", "fdatasync", "write", "writev", "pwrite64", "ftruncate", "fallocate", "copy_file_range":
		err = d.onDescriptor(c)
	case "close":
	default:
		err = d.otherCall(c)
	}
	if err != nil {
		return fmt.Errorf("%s: %w", c.name, err)
	}
	return nil
}

// otherCall fails if one of the arguments is below the folder.
func (d *Disk) otherCall(c call) error {
	for i := range c.args {
		path, err := c.data(i)
		if err != nil {
			return err
		}
		_, opened, err := c.descriptor(i)
		if d.within(string(path)) || err == nil && d.within(opened) {
			return fmt.Errorf("the model does not know this call: %.300q", c.args)
		}
	}
	return nil
}

func (d *Disk) within(path string) bool { return path == d.dir || strings.HasPrefix(path, d.dir+"/") }

// place is a name in a folder.
type place struct {
	folder *node
	name   string
	path   string
}

func (p place) node() *node { return p.folder.entries[p.name] }

// exists reports whether the real folder has the name. The result of a call is unknown if the process ended within it.
func (p place) exists() bool {
	_, err := os.Lstat(p.path)
	return err == nil
}

// place returns the place that a descriptor of a folder and a path name. ok is false outside the folder.
func (d *Disk) place(c call, i int) (p place, ok bool, err error) {
	_, base, err := c.descriptor(i)
	if err != nil {
		return p, false, err
	}
	name, err := c.data(i + 1)
	if err != nil {
		return p, false, err
	}
	path := string(name)
	if !filepath.IsAbs(path) {
		path = filepath.Join(base, path)
	}
	path = filepath.Clean(path)
	if path == d.dir {
		return place{folder: &node{entries: map[string]*node{"": d.root}}, path: path}, true, nil
	}
	if !d.within(path) {
		return p, false, nil
	}
	p = place{folder: d.root, path: path}
	parts := strings.Split(strings.TrimPrefix(path, d.dir+"/"), "/")
	for _, part := range parts[:len(parts)-1] {
		if p.folder = p.folder.entries[part]; p.folder == nil || !p.folder.folder() {
			return p, false, fmt.Errorf("%s: the model has no %s", path, part)
		}
	}
	p.name = parts[len(parts)-1]
	return p, true, nil
}
