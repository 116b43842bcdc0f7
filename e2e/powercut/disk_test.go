package powercut

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// escape escapes the texts and paths of a trace like strace -xx. DIR is the folder of the model.
func escape(trace, dir string) string {
	quoted := regexp.MustCompile(`"[^"]*"|<(DIR|/|pipe|socket)[^>]*>`)
	return quoted.ReplaceAllStringFunc(trace, func(part string) string {
		inner := strings.Replace(part[1:len(part)-1], "DIR", dir, 1)
		var b strings.Builder
		for _, ch := range []byte(inner) {
			fmt.Fprintf(&b, `\x%02x`, ch)
		}
		return part[:1] + b.String() + part[len(part)-1:]
	})
}

const (
	opened   = `1 openat(AT_FDCWD<DIR>, "DIR/a", O_RDWR|O_CREAT|O_CLOEXEC, 0600) = 3<DIR/a>` + "\n"
	folder   = `1 openat(AT_FDCWD<DIR>, "DIR", O_RDONLY) = 4<DIR>` + "\n"
	synced   = "1 fsync(3<DIR/a>) = 0\n"
	named    = "1 fsync(4<DIR>) = 0\n"
	failed   = "1 fsync(3<DIR/a>) = -1 EIO (Input/output error) (INJECTED)\n"
	writeOne = `1 pwrite64(3<DIR/a>, "one", 3, 0) = 3` + "\n"
	writeTwo = `1 pwrite64(3<DIR/a>, "two", 3, 0) = 3` + "\n"
	renamed  = `1 renameat(AT_FDCWD<DIR>, "DIR/a", AT_FDCWD<DIR>, "DIR/b") = 0` + "\n"
)

// TestDisk replays small traces. sees is what processes see, and after what a power cut leaves: name=content.
func TestDisk(t *testing.T) {
	for _, test := range []struct{ name, trace, sees, after string }{
		{"nothing synced", opened + folder + writeOne, "a=one", ""},
		{"the name is not synced", opened + writeOne + synced, "a=one", ""},
		{"the content is not synced", opened + folder + named + writeOne, "a=one", "a="},
		{"all is synced", opened + folder + writeOne + synced + named, "a=one", "a=one"},
		{"a later write is not synced", opened + folder + writeOne + synced + named + writeTwo, "a=two", "a=one"},
		{"a sync fails, and the next does not write it", opened + folder + named + writeOne + failed + synced,
			"a=one", "a="},
		{"written again after a failed sync", opened + folder + named + writeOne + failed + writeTwo + synced,
			"a=two", "a=two"},
		{"renamed", opened + folder + writeOne + synced + named + renamed, "b=one", "a=one"},
		{"renamed and synced", opened + folder + writeOne + synced + named + renamed + named, "b=one", "b=one"},
		{"removed", opened + folder + writeOne + synced + named + `1 unlinkat(AT_FDCWD<DIR>, "DIR/a", 0) = 0` + "\n",
			"", "a=one"},
		{"linked", opened + folder + writeOne + synced + named +
			`1 linkat(AT_FDCWD<DIR>, "DIR/a", AT_FDCWD<DIR>, "DIR/b", 0) = 0` + "\n" + writeTwo + synced + named,
			"a=two b=two", "a=two b=two"},
		{"a sync that ends after a write that it did not cover", opened + folder + named +
			"1 fsync(3<DIR/a> <unfinished ...>\n" + `2 pwrite64(3<DIR/a>, "one", 3, 0) = 3` + "\n" +
			"1 <... fsync resumed>) = 0\n", "a=one", "a="},
		{"ends within a sync", opened + folder + named + writeOne + "1 fsync(3<DIR/a> <unfinished ...>\n",
			"a=one", "a="},
		{"written one after the other", opened + folder + named + `1 write(3<DIR/a>, "on", 2) = 2` + "\n" +
			`1 write(3<DIR/a>, "e...", 4) = 1` + "\n" + synced, "a=one", "a=one"},
		{"several parts", opened + folder + named +
			`1 writev(3<DIR/a>, [{iov_base="on", iov_len=2}, {iov_base="e", iov_len=1}], 2) = 3` + "\n" + synced,
			"a=one", "a=one"},
		{"cut", opened + folder + named + writeOne + "1 ftruncate(3<DIR/a>, 1) = 0\n" + synced, "a=o", "a=o"},
		{"a number of a descriptor that was closed", opened + folder + named + "1 close(4<DIR> <unfinished ...>\n" +
			`2 openat(AT_FDCWD<DIR>, "DIR/a", O_WRONLY) = 4<DIR/a>` + "\n1 <... close resumed>) = 0\n" +
			`2 pwrite64(4<DIR/a>, "one", 3, 0) = 3` + "\n2 fdatasync(4<DIR/a>) = 0\n", "a=one", "a=one"},
		{"other files", `1 openat(AT_FDCWD<DIR>, "/dev/null", O_WRONLY) = 5</dev/null>` + "\n" +
			`1 write(5</dev/null>, "one", 3) = 3` + "\n" +
			`1 splice(8<pipe:[1]>, NULL, 9<socket:[2]>, NULL, 1, 0) = 1` + "\n", "", ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "data")
			d := New(dir)
			if err := d.Replay(strings.NewReader(escape(test.trace, dir))); err != nil {
				t.Fatal(err)
			}
			if got := seen(d); got != test.sees {
				t.Errorf("processes see %q, want %q", got, test.sees)
			}
			if got := content(t, d, never); got != test.after {
				t.Errorf("a power cut leaves %q, want %q", got, test.after)
			}
		})
	}
}

// TestSynced checks which syncs a model has seen, and which one failed first.
func TestSynced(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "data")
	d := New(dir)
	below := `1 mkdirat(AT_FDCWD<DIR>, "DIR/sub", 0700) = 0` + "\n" +
		`1 openat(AT_FDCWD<DIR>, "DIR/sub", O_RDONLY) = 5<DIR/sub>` + "\n"
	subFailed := "1 fdatasync(5<DIR/sub>) = -1 EIO (Input/output error)\n"
	for _, test := range []struct {
		trace  string
		synced []string
		failed string
	}{
		{opened + folder + writeOne, nil, ""},
		{opened + folder + synced, []string{"a"}, ""},
		{opened + folder + named + below + subFailed + failed, []string{"./", "a", "sub/"}, "sub/"},
		{opened + folder + synced, []string{"a"}, ""}, // another process
		{opened + "1 fsync(3<DIR/a> <unfinished ...>\n", nil, ""},
	} {
		if err := d.Replay(strings.NewReader(escape(test.trace, dir))); err != nil {
			t.Fatal(err)
		}
		if got := d.Synced(); !slices.Equal(got, test.synced) || d.FirstFailed() != test.failed {
			t.Errorf("synced %q, failed first %q, want %q, %q", got, d.FirstFailed(), test.synced, test.failed)
		}
	}
}

func always() bool { return true }
func never() bool  { return false }

// seen returns what processes see.
func seen(d *Disk) string {
	var all []string
	for _, name := range slices.Sorted(maps.Keys(d.root.entries)) {
		all = append(all, name+"="+string(d.root.entries[name].data))
	}
	return strings.Join(all, " ")
}

// content writes the model to a folder and returns its files.
func content(t *testing.T, d *Disk, keep func() bool) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "image")
	if err := d.Write(dir, keep); err != nil {
		t.Fatal(err)
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var all []string
	for _, e := range entries {
		data, err := os.ReadFile(filepath.Join(dir, e.Name()))
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, e.Name()+"="+string(data))
	}
	return strings.Join(all, " ")
}

// TestKilledWithinAWrite ends traces within a write that was carried out. Strace then prints no result, or a number
// that is none. An error of the write itself is not taken for that.
func TestKilledWithinAWrite(t *testing.T) {
	for end, want := range map[string]string{
		"": "a=one", "1 <... pwrite64 resumed>) = ?\n": "a=one",
		"1 <... pwrite64 resumed>) = -1 (errno 18446744073709551615)\n": "a=one",
		"1 <... pwrite64 resumed>) = -1 EIO (Input/output error)\n":     "a=",
	} {
		dir := t.TempDir()
		if err := os.WriteFile(filepath.Join(dir, "a"), []byte("one"), 0o600); err != nil {
			t.Fatal(err)
		}
		d := New(dir)
		trace := opened + `1 pwrite64(3<DIR/a>, "one", 3, 0 <unfinished ...>` + "\n" + end
		if err := d.Replay(strings.NewReader(escape(trace, dir))); err != nil {
			t.Fatal(err)
		}
		if got := seen(d); got != want {
			t.Errorf("%q: processes see %q, want %q", end, got, want)
		}
	}
}

// TestUnknownCalls checks that what the model cannot follow is an error, and not a difference that nobody sees.
func TestUnknownCalls(t *testing.T) {
	for _, trace := range []string{
		`1 renameat2(AT_FDCWD<DIR>, "DIR/a", AT_FDCWD<DIR>, "DIR/b", RENAME_EXCHANGE) = 0`,
		`1 symlinkat("a", AT_FDCWD<DIR>, "DIR/b") = 0`,
		`1 write(9<DIR/a>, "one", 3) = 3`,
		`1 splice(8<pipe:[1]>, NULL, 3<DIR/a>, NULL, 1, 0) = 1`,
		`1 fallocate(3<DIR/a>, FALLOC_FL_PUNCH_HOLE|FALLOC_FL_KEEP_SIZE, 0, 1) = 0`,
		`1 openat(AT_FDCWD<DIR>, "DIR/missing", O_RDONLY) = 5<DIR/missing>`,
		`1 openat(AT_FDCWD<DIR>, "DIR/x/y", O_RDWR|O_CREAT, 0600) = 5<DIR/x/y>`,
		`1 pwrite64(3<DIR/a>, "on"..., 3, 0) = 3`,
		`not a call`,
	} {
		dir := t.TempDir()
		if err := New(dir).Replay(strings.NewReader(escape(opened+trace+"\n", dir))); err == nil {
			t.Errorf("no error: %s", trace)
		}
	}
}

// TestCompare checks that each difference between the model and the real folder is found.
func TestCompare(t *testing.T) {
	for name, change := range map[string]func(dir string) error{
		"":         func(string) error { return nil },
		"content":  func(dir string) error { return os.WriteFile(filepath.Join(dir, "a"), []byte("two"), 0o600) },
		"missing":  func(dir string) error { return os.Remove(filepath.Join(dir, "a")) },
		"one more": func(dir string) error { return os.Mkdir(filepath.Join(dir, "b"), 0o700) },
		"a link":   func(dir string) error { return os.Symlink("a", filepath.Join(dir, "b")) },
	} {
		dir := filepath.Join(t.TempDir(), "data")
		d := New(dir)
		if err := d.Replay(strings.NewReader(escape(opened+writeOne, dir))); err != nil {
			t.Fatal(err)
		}
		if err := d.Write(dir, always); err != nil {
			t.Fatal(err)
		}
		if err := change(dir); err != nil {
			t.Fatal(err)
		}
		if err := d.Compare(); (err != nil) != (name != "") {
			t.Errorf("%q: %v", name, err)
		}
	}
}
