package folder

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/chainstore/chainstore/chain"
	"github.com/chainstore/chainstore/internal/durable"
	"github.com/chainstore/chainstore/storagenode/segment"
	"github.com/chainstore/chainstore/storagenode/tiles"
	"github.com/chainstore/chainstore/wire"
)

// Misplaced is a file system object at a path where the node needs a file or a folder and finds neither.
type Misplaced struct {
	Path   string
	Block  uint64 // the first block of a segment, 0 for other files
	detail wire.Args
}

// Finding returns the finding of a check that leaves the object where it is.
func (m *Misplaced) Finding() wire.Finding {
	return wire.NewFinding(m.Block, chain.WrongFile, wire.Message{Code: wire.CodeMisplaced, Args: m.detail})
}

// Moved returns the finding of a node that moved the object to a path, relative to its folder.
func (m *Misplaced) Moved(to string) wire.Finding {
	args := maps.Clone(m.detail)
	args["moved"] = to
	return wire.NewFinding(m.Block, chain.WrongFile, wire.Message{Code: wire.CodeMovedAside, Args: args})
}

// Misplaced lists what stands at the paths of the node's files and folders and is of another kind. It changes nothing.
//
// A folder may be a symbolic link to a folder, and a segment a link to a file: an operator may have put them on another
// disk. The node creates and truncates all other files, so following a link there would write outside its folder.
//
// The error is the disk's, or says that segments/ is a link to nowhere. Its disk is then taken to be away: its blocks
// do not count as missing.
func (d Dir) Misplaced() ([]Misplaced, error) {
	var list []Misplaced
	look := func(path string, folder, links bool, block uint64) (there bool, err error) {
		m, err := d.inspect(path, folder, links, block)
		if m != nil {
			list = append(list, *m)
		}
		return m == nil, err
	}
	exists := map[string]bool{}
	for _, name := range subfolders {
		there, err := look(d.join(name), true, true, 0)
		if err != nil {
			return nil, err
		}
		exists[name] = there
	}
	if info, err := os.Lstat(d.Segments()); !exists["segments"] && err == nil && info.Mode()&os.ModeSymlink != 0 {
		return nil, fmt.Errorf("%s is a symbolic link that leads to no folder: "+
			"mount its disk, or remove the link to begin without blocks", d.Segments())
	}
	files := []string{d.Index(), d.Lost(), d.Ticket(), d.Running()}
	if exists["tiles"] {
		files = append(append(files, d.Synced()), tiles.Paths(d.Tiles())...)
	}
	for folder, pattern := range map[string]string{"records": "*.run*", "inbox": "*.block"} {
		if !exists[folder] {
			continue
		}
		found, err := filepath.Glob(d.join(folder, pattern))
		if err != nil {
			return nil, err
		}
		files = append(files, found...)
	}
	for _, path := range files {
		if _, err := look(path, false, false, 0); err != nil {
			return nil, err
		}
	}
	if !exists["segments"] {
		return list, nil
	}
	firsts, err := segment.List(d.Segments())
	if err != nil {
		return nil, err
	}
	for _, first := range firsts {
		if _, err := look(filepath.Join(d.Segments(), segment.Name(first)), false, true, first); err != nil {
			return nil, err
		}
	}
	return list, nil
}

// MisplacedSegment inspects the path of one segment. It returns nil if a segment is there, or nothing.
func (d Dir) MisplacedSegment(path string, first uint64) (*Misplaced, error) {
	return d.inspect(path, false, true, first)
}

func (d Dir) inspect(path string, folder, links bool, block uint64) (*Misplaced, error) {
	found, err := otherKindAt(path, folder, links)
	if err != nil || found == "" {
		return nil, err
	}
	needed := "file"
	if folder {
		needed = "folder"
	}
	args := wire.Args{"path": d.Relative(path), "found": found, "needed": needed}
	return &Misplaced{Path: path, Block: block, detail: args}, nil
}

// Relative returns a path relative to the data folder, with slashes.
func (d Dir) Relative(path string) string {
	return filepath.ToSlash(strings.TrimPrefix(path, filepath.Clean(string(d))+string(filepath.Separator)))
}

// MakeSubfolders creates the folders of a data folder that are missing.
func (d Dir) MakeSubfolders() error {
	for _, name := range subfolders {
		if err := durable.MkdirAll(d.join(name)); err != nil {
			return err
		}
	}
	return nil
}

// otherKindAt names the kind of what is at a path, "" if that is the kind that is needed or nothing is there.
func otherKindAt(path string, folder, links bool) (string, error) {
	info, err := os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENOTDIR) {
		return "", nil
	}
	if err != nil {
		return "", err
	}
	if info.Mode()&os.ModeSymlink != 0 && links {
		switch target, err := os.Stat(path); {
		case err == nil:
			info = target
		case !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, syscall.ELOOP) && !errors.Is(err, syscall.ENOTDIR):
			return "", err
		}
	}
	if folder && info.IsDir() || !folder && info.Mode().IsRegular() {
		return "", nil
	}
	return strings.TrimPrefix(durable.KindOf(info.Mode()), "a "), nil
}
