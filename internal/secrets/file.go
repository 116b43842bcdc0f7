package secrets

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"syscall"

	"github.com/chainstore/chainstore/internal/durable"
)

// Values are those of a secret. A node proves Current and accepts all. At most one of Next and Old is set. They differ
// in their meaning for operators only: see [Values.Format].
type Values struct {
	Current string
	Next    string // "" for none; to become the current one
	Old     string // "" for none; was the current one
}

// Accepted returns all values, the current one first.
func (v Values) Accepted() []string {
	all := []string{v.Current}
	for _, other := range []string{v.Next, v.Old} {
		if other != "" {
			all = append(all, other)
		}
	}
	return all
}

// Format returns the content of a file. Its first line is the current value. The second, if there is one, is "next" or
// "old" and another value.
func (v Values) Format() []byte {
	text := v.Current + "\n"
	switch {
	case v.Next != "":
		text += labelNext + " " + v.Next + "\n"
	case v.Old != "":
		text += labelOld + " " + v.Old + "\n"
	}
	return []byte(text)
}

const (
	labelNext = "next"
	labelOld  = "old"
	// maxFile bounds a file with a secret, in bytes: two values of maxLength characters of four bytes, and more.
	maxFile = 8 << 10
)

// Parse reads the content of a file. A second value without a label is the next one. Errors contain no part of a value.
func Parse(content []byte) (v Values, err error) {
	lines := strings.Split(strings.TrimSpace(string(content)), "\n")
	first := strings.Fields(lines[0])
	switch {
	case len(first) != 1:
		return v, errors.New("the first line must have one value and nothing else")
	case len(lines) > 2:
		return v, fmt.Errorf("it has %d lines, and may have two: the current value, and \"next\" or \"old\" with "+
			"another one", len(lines))
	}
	v.Current = first[0]
	if len(lines) == 1 {
		return v, nil
	}
	switch second := strings.Fields(lines[1]); {
	case len(second) == 1 && second[0] != labelNext && second[0] != labelOld:
		v.Next = second[0]
	case len(second) == 2 && second[0] == labelNext:
		v.Next = second[1]
	case len(second) == 2 && second[0] == labelOld:
		v.Old = second[1]
	default:
		return Values{}, errors.New("the second line must have \"next\" or \"old\", and one value")
	}
	if v.Next == v.Current || v.Old == v.Current {
		return Values{}, errors.New("both lines have the same value")
	}
	return v, nil
}

// readFile returns the content and the mode of a file.
func readFile(path string) (content []byte, mode os.FileMode, err error) {
	file, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0) // do not wait for the writer of a named pipe
	if err != nil {
		return nil, 0, err
	}
	defer func() { err = errors.Join(err, file.Close()) }()
	info, err := file.Stat()
	if err != nil {
		return nil, 0, err
	}
	if content, err = io.ReadAll(io.LimitReader(file, maxFile+1)); err != nil {
		return nil, 0, err
	}
	if len(content) > maxFile {
		return nil, 0, fmt.Errorf("%s has more than %d bytes: it must have one or two values", path, maxFile)
	}
	return content, info.Mode(), nil
}

// ReadFile reads a file that other users of the machine may not read or change. The values may be weak: see [Check].
func ReadFile(path string) (Values, error) {
	content, mode, err := readFile(path)
	if err != nil {
		return Values{}, err
	}
	if err := checkMode(path, mode); err != nil && !isMounted(path, mode) {
		return Values{}, err
	}
	v, err := Parse(content)
	if err != nil {
		return Values{}, fmt.Errorf("%s: %w", path, err)
	}
	return v, nil
}

// WriteFile replaces the content of a file, or creates it with the mode 0600. It refuses a file that the node might not
// be able to read afterwards: one of another user, of a group, or behind a link.
func WriteFile(path string, v Values) error {
	if err := checkWritable(path); err != nil {
		return err
	}
	return durable.WriteFile(path, v.Format(), 0o600)
}

// checkWritable returns an error if a file cannot be replaced in place.
func checkWritable(path string) error {
	info, err := os.Lstat(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if !info.Mode().IsRegular() {
		return fmt.Errorf("%s is a link or no file: replace the secret where it comes from", path)
	}
	if stat, ok := info.Sys().(*syscall.Stat_t); ok && int(stat.Uid) != os.Geteuid() {
		return fmt.Errorf("%s belongs to the user %d: run this command as that user, so that the node can read the "+
			"new file", path, stat.Uid)
	}
	if info.Mode().Perm()&0o070 != 0 {
		return fmt.Errorf("%s has the mode %04o, and would get 0600, which its group cannot read: give the file to "+
			"the user of the node, and chmod 600 it", path, info.Mode().Perm())
	}
	return nil
}

// New returns a new strong value: 26 random letters and digits, which have 130 bits.
func New() string { return rand.Text() }
