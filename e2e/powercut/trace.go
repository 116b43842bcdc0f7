package powercut

import (
	"bufio"
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
)

// calls are the system calls that change files or descriptors. Reads at the position of a descriptor are not among
// them, so a file that is both read and written that way fails in Compare.
const calls = "openat,open,creat,close,dup,dup2,dup3,lseek,write,writev,pwrite64,pwritev,pwritev2,truncate,ftruncate," +
	"fallocate,copy_file_range,sendfile,splice,fsync,fdatasync,sync_file_range,syncfs,rename,renameat,renameat2," +
	"link,linkat,symlink,symlinkat,unlink,unlinkat,rmdir,mkdir,mkdirat"

// Command returns the command line that precedes that of a program whose trace is to be written to a file. The program
// keeps its process id. fail, if it is not "", is an argument of strace's --inject.
func Command(trace, fail string) []string {
	line := []string{"strace", "-D", "-f", "-qqq", "--seccomp-bpf", "-y", "-xx", "-s", "67108864", "-o", trace,
		"-e", "trace=" + calls}
	if fail != "" {
		line = append(line, "-e", "inject="+fail)
	}
	return line
}

// call is a system call of a trace.
type call struct {
	name string
	args []string
	// result is -1 if the call failed. If the process ended within the call, whether it was carried out is unknown.
	result  int64
	unknown bool
	// began is what enter has set.
	began int
}

// readTrace calls enter at the beginning of each call, and leave at its end.
func readTrace(trace io.Reader, enter func(*call) error, leave func(call) error) error {
	began, texts := map[string]call{}, map[string]string{} // calls that have not ended, by thread
	lines := bufio.NewReaderSize(trace, 1<<20)
	for number := 1; ; number++ {
		line, err := lines.ReadString('\n')
		if errors.Is(err, io.EOF) && line == "" {
			break
		}
		if err != nil && !errors.Is(err, io.EOF) {
			return err
		}
		thread, text, _ := strings.Cut(strings.TrimSuffix(line, "\n"), " ")
		text = strings.Replace(strings.TrimLeft(text, " "), " <unfinished ...>) = ?", ") = ?", 1)
		var c call
		switch {
		case strings.HasPrefix(text, "---"), strings.HasPrefix(text, "+++"):
			continue
		case strings.HasPrefix(text, "<... "):
			_, rest, ok := strings.Cut(text, " resumed>")
			if !ok {
				return fmt.Errorf("line %d: %.200s", number, text)
			}
			text = texts[thread] + rest
			delete(texts, thread)
			c, err = parseCall(text)
			c.began = began[thread].began
			delete(began, thread)
		default:
			head, unfinished := strings.CutSuffix(text, " <unfinished ...>")
			if unfinished {
				text = head
			}
			c, err = parseCall(text)
			if err == nil {
				err = enter(&c)
			}
			if unfinished {
				texts[thread], began[thread] = text, c
				if err != nil {
					return fmt.Errorf("line %d: %w", number, err)
				}
				continue
			}
		}
		if err == nil {
			err = leave(c)
		}
		if err != nil {
			return fmt.Errorf("line %d: %w", number, err)
		}
	}
	for _, c := range began {
		c.unknown = true
		if err := leave(c); err != nil {
			return err
		}
	}
	return nil
}

// parseCall parses `name(args) = result`. Without a result the call is unknown.
func parseCall(text string) (c call, err error) {
	open := strings.IndexByte(text, '(')
	if open < 0 {
		return c, fmt.Errorf("not a system call: %.200q", text)
	}
	c.name = text[:open]
	rest := text[open+1:]
	depth, quoted, start := 0, false, 0
	end := -1
	for i := 0; i < len(rest) && end < 0; i++ {
		switch ch := rest[i]; {
		case ch == '"':
			quoted = !quoted
		case quoted:
		case ch == '{' || ch == '[' || ch == '<' || ch == '(':
			depth++
		case ch == ')' && depth == 0:
			end = i
		case ch == '}' || ch == ']' || ch == '>' || ch == ')':
			depth--
		case ch == ',' && depth == 0:
			c.args = append(c.args, rest[start:i])
			start = i + 2
		}
	}
	if end < 0 { // it has not ended
		c.args, c.unknown = append(c.args, strings.TrimSuffix(rest[min(start, len(rest)):], ",")), true
		return c, nil
	}
	if start < end {
		c.args = append(c.args, rest[start:end])
	}
	_, result, ok := strings.Cut(rest[end:], "= ")
	if !ok {
		return c, fmt.Errorf("no result: %.200q", text)
	}
	// Strace prints the second one, with a number that is no error, if a kill comes before it reads the result.
	if strings.HasPrefix(result, "?") || strings.HasPrefix(result, "-1 (errno ") {
		c.unknown = true
		return c, nil
	}
	result, _, _ = strings.Cut(result, " ")
	result, _, _ = strings.Cut(result, "<")
	if c.result, err = strconv.ParseInt(result, 0, 64); err != nil {
		return c, fmt.Errorf("the result of %.200q: %w", text, err)
	}
	return c, nil
}

func (c call) arg(i int) string {
	if i >= len(c.args) {
		return ""
	}
	return c.args[i]
}

// number returns an argument that is a number, such as the size of a write.
func (c call) number(i int) (int64, error) {
	n, err := strconv.ParseInt(c.arg(i), 0, 64)
	if err != nil {
		return 0, fmt.Errorf("argument %d of %s: %w", i, c.name, err)
	}
	return n, nil
}

// descriptor returns the number of a descriptor `5<path>`, and its path.
func (c call) descriptor(i int) (fd int, path string, err error) {
	number, rest, _ := strings.Cut(c.arg(i), "<")
	rest, _, _ = strings.Cut(rest, ">") // then "(deleted)" may follow
	if number == "AT_FDCWD" {
		fd = -1
	} else if fd, err = strconv.Atoi(number); err != nil {
		return 0, "", fmt.Errorf("argument %d of %s: %w", i, c.name, err)
	}
	name, err := unescape(rest)
	return fd, string(name), err
}

// data returns the bytes of an argument: "\x61\x62", or [{iov_base="\x61", iov_len=1}, ...].
func (c call) data(i int) ([]byte, error) {
	var all []byte
	rest := c.arg(i)
	for {
		_, after, ok := strings.Cut(rest, `"`)
		if !ok {
			return all, nil
		}
		text, after, ok := strings.Cut(after, `"`)
		if !ok || strings.HasPrefix(after, "...") {
			return nil, fmt.Errorf("argument %d of %s is incomplete", i, c.name)
		}
		data, err := unescape(text)
		if err != nil {
			return nil, fmt.Errorf("argument %d of %s: %w", i, c.name, err)
		}
		all, rest = append(all, data...), after
	}
}

// unescape decodes \x61\x62.
func unescape(text string) ([]byte, error) {
	data, err := hex.DecodeString(string(bytes.ReplaceAll([]byte(text), []byte(`\x`), nil)))
	if err != nil {
		return nil, fmt.Errorf("%.100q: %w", text, err)
	}
	return data, nil
}
