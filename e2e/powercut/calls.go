package powercut

import (
	"fmt"
	"os"
	"strings"
)

// pageBytes is the size of the parts of a write that reach the device independently of each other.
const pageBytes = 4096

func (d *Disk) open(c call) error {
	p, ok, err := d.place(c, 0)
	if err != nil || !ok || c.result < 0 {
		return err
	}
	flags := "|" + c.arg(2) + "|"
	has := func(flag string) bool { return strings.Contains(flags, "|"+flag+"|") }
	n := p.node()
	switch {
	case c.unknown && (!has("O_CREAT") || n != nil || !p.exists()):
		return d.settle(n, p.path)
	case n == nil && !has("O_CREAT"):
		return fmt.Errorf("the model has no %s", p.path)
	case n == nil:
		n = &node{}
		p.folder.change(d.add(p, n))
	case has("O_TRUNC") && len(n.data) > 0:
		n.truncate(0)
	}
	if !c.unknown {
		d.descriptors[int(c.result)] = &descriptor{node: n, append: has("O_APPEND")}
	}
	return nil
}

func (d *Disk) rename(c call) error {
	from, ok, err := d.place(c, 0)
	if err != nil || !ok || c.result < 0 || c.unknown && from.exists() {
		return err
	}
	to, ok, err := d.place(c, 2)
	if err != nil || !ok {
		return fmt.Errorf("from %s to another folder: %w", from.path, err)
	}
	n := from.node()
	if n == nil {
		return fmt.Errorf("the model has no %s", from.path)
	}
	add := d.add(to, n)
	remove := func(e map[string]*node) { delete(e, from.name) }
	if from.folder == to.folder {
		from.folder.change(change{entries: func(e map[string]*node) { remove(e); add.entries(e) }})
		return nil
	}
	to.folder.change(add)
	from.folder.change(change{entries: remove})
	return nil
}

func (d *Disk) link(c call) error {
	from, ok, err := d.place(c, 0)
	if err != nil || !ok || c.result < 0 {
		return err
	}
	to, ok, err := d.place(c, 2)
	if err != nil || !ok {
		return fmt.Errorf("from %s to another folder: %w", from.path, err)
	}
	if c.unknown && !to.exists() {
		return nil
	}
	n := from.node()
	if n == nil {
		return fmt.Errorf("the model has no %s", from.path)
	}
	to.folder.change(d.add(to, n))
	return nil
}

func (d *Disk) unlink(c call) error {
	p, ok, err := d.place(c, 0)
	if err == nil && ok && c.result >= 0 && !(c.unknown && p.exists()) {
		p.folder.change(change{entries: func(e map[string]*node) { delete(e, p.name) }})
	}
	return err
}

func (d *Disk) makeFolder(c call) error {
	p, ok, err := d.place(c, 0)
	if err == nil && ok && c.result >= 0 && !(c.unknown && !p.exists()) && p.folder.entries[p.name] == nil {
		n := newFolder()
		p.folder.change(d.add(p, n))
	}
	return err
}

// onDescriptor carries out a call whose first argument is a descriptor.
func (d *Disk) onDescriptor(c call) error {
	fd, path, err := c.descriptor(0)
	if err != nil {
		return err
	}
	f := d.descriptors[fd]
	if f == nil && d.within(path) {
		return fmt.Errorf("unknown descriptor %d of %s", fd, path)
	}
	if c.name == "copy_file_range" {
		return d.copyRange(c)
	}
	if f == nil {
		return nil
	}
	switch c.name {
	case "fsync", "fdatasync":
		if !c.unknown {
			f.node.sync(c.began, c.result < 0)
			d.noteSync(f.node, path, c.result < 0)
		}
		return nil
	case "lseek":
		f.at = c.result
		return nil
	}
	switch {
	case c.unknown:
		return d.settle(f.node, path)
	case c.result < 0:
		return nil
	}
	return f.modify(c)
}

// modify carries out a call that changes the content of a file.
func (f *descriptor) modify(c call) error {
	switch c.name {
	case "ftruncate":
		size, err := c.number(1)
		if err == nil {
			f.node.truncate(size)
		}
		return err
	case "fallocate":
		from, err := c.number(2)
		if err != nil {
			return err
		}
		size, err := c.number(3)
		switch mode := c.arg(1); {
		case err != nil:
			return err
		case mode == "0" && from+size > int64(len(f.node.data)):
			f.node.truncate(from + size)
		case mode != "0" && mode != "FALLOC_FL_KEEP_SIZE":
			return fmt.Errorf("the model does not know the mode %s", mode)
		}
		return nil
	}
	data, err := c.data(1)
	if err != nil {
		return err
	}
	if c.result > int64(len(data)) {
		return fmt.Errorf("%d bytes were written, the trace has %d", c.result, len(data))
	}
	data = data[:c.result]
	if c.name == "pwrite64" {
		at, err := c.number(3)
		if err == nil {
			f.node.write(data, at)
		}
		return err
	}
	if f.append {
		f.at = int64(len(f.node.data))
	}
	f.node.write(data, f.at)
	f.at += c.result
	return nil
}

// copyRange carries out copy_file_range(in, offset, out, offset, size, flags). An offset is a pointer, or NULL for the
// descriptor's position.
func (d *Disk) copyRange(c call) error {
	in, _, err := c.descriptor(0)
	if err != nil {
		return err
	}
	out, path, err := c.descriptor(2)
	if err != nil {
		return err
	}
	from, to := d.descriptors[in], d.descriptors[out]
	switch {
	case to == nil && !d.within(path), c.result <= 0 && !c.unknown:
		return nil
	case c.unknown && to != nil:
		return d.settle(to.node, path)
	case from == nil || to == nil || c.arg(1) != "NULL" || c.arg(3) != "NULL":
		return fmt.Errorf("the model does not know this call: %.300q", c.args)
	case from.at+c.result > int64(len(from.node.data)):
		return fmt.Errorf("%d bytes from %d on were copied; the model has %d", c.result, from.at, len(from.node.data))
	}
	to.node.write(from.node.data[from.at:from.at+c.result], to.at)
	from.at += c.result
	to.at += c.result
	return nil
}

// settle takes the content of the real file: the process ended within a call that may have changed it.
func (d *Disk) settle(n *node, path string) error {
	if n == nil || n.folder() {
		return nil
	}
	data, err := os.ReadFile(path)
	if os.IsNotExist(err) {
		return nil
	}
	if err == nil && string(data) != string(n.data) {
		n.truncate(int64(len(data)))
		n.write(data, 0)
	}
	return err
}

func (n *node) truncate(size int64) {
	n.change(change{data: func(data []byte) []byte { return resize(data, int(size)) }})
}

// write records one change for each page.
func (n *node) write(data []byte, at int64) {
	for len(data) > 0 {
		size := min(len(data), pageBytes-int(at%pageBytes))
		part, start := data[:size], int(at)
		n.change(change{data: func(data []byte) []byte {
			if end := start + len(part); end > len(data) {
				data = resize(data, end)
			}
			copy(data[start:], part)
			return data
		}})
		data, at = data[size:], at+int64(size)
	}
}

// resize cuts data, or extends it by zeros.
func resize(data []byte, size int) []byte {
	if size <= len(data) {
		return data[:size:size]
	}
	return append(data, make([]byte, size-len(data))...)
}
