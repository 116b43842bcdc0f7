package main

import (
	"fmt"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/spf13/cobra"
)

// mentioned is a command line in a document, split into words.
type mentioned struct {
	words []string
	// whole: it is a line of a block of commands. Others are names in a text, which may leave out arguments.
	whole bool
}

// TestDocumentedCommands checks that every command line in the documents exists, with its flags and its arguments. The
// change log and the decisions also name commands that are not there any more.
func TestDocumentedCommands(t *testing.T) {
	var files []string
	for _, pattern := range []string{"../../docs/*.md", "../../[^C]*.md", "../../CONTRIBUTING.md", "../../e2e/*.md"} {
		found, err := filepath.Glob(pattern)
		if err != nil {
			t.Fatal(err)
		}
		files = append(files, found...)
	}
	count := 0
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range commandsIn(string(data)) {
			count++
			if err := checkMentioned(m); err != nil {
				t.Errorf("%s: chainstore %s: %v", file, strings.Join(m.words, " "), err)
			}
		}
	}
	if count < 200 {
		t.Errorf("only %d command lines were found", count)
	}
}

// TestWrongCommandsAreFound checks that the check above reports what is wrong, wherever in a script it is.
func TestWrongCommandsAreFound(t *testing.T) {
	for _, text := range []string{
		"```sh\nchainstore statuss\n```", "```sh host\nX=1 ./chainstore status --no-such\n```",
		"```sh\ncat x | chainstore append --wait --receipt\n```", "```sh\nchainstore admin-token revoke\n```",
		"```sh\nchainstore ca show --within soon x.pem\n```", "```sh\nX=$(chainstore log keys)\n```",
		"```sh\nuntil [ \"$(chainstore storage wait --json | wc -l)\" = 3 ]; do sleep 1; done\n```",
		"```sh\nssh root@a 'cd / && chainstore at-rest state'\n```", "```sh\nssh root@a chainstore no\n```",
		"```sh\nrunuser -u chainstore -- chainstore log backup --no\n```",
		"```\nExecStart=/usr/local/bin/chainstore master --data x \\\n  --no-such y\n```",
		"```console\n$ chainstore no\n```", "use `chainstore secret\nrotated` for it", "`chainstore verify --date X`",
		"`chainstore log keys`", "```sh\n# a comment\n(umask 077; chainstore secret old > x)\n```",
		"   ```sh\n   chainstore log close --reason x\n   ```",
	} {
		found := commandsIn(text)
		if len(found) != 1 {
			t.Errorf("%q: found %v", text, found)
			continue
		}
		if err := checkMentioned(found[0]); err == nil {
			t.Errorf("%q: %q is not reported", text, found[0].words)
		}
	}
	for _, text := range []string{
		"```sh\nuseradd --system chainstore   # chainstore statuss\ninstall -o chainstore -g chainstore /x\n```",
		"```console\n$ true\nchainstore statuss\n```", "the folder `/var/lib/chainstore`", "`chainstore-data/x`",
		"```go\nchainstore.Status()\n```",
	} {
		if found := commandsIn(text); len(found) != 0 {
			t.Errorf("%q: found %v", text, found)
		}
	}
	for _, text := range []string{
		"`chainstore log key …`", "`chainstore verify --data`", "`chainstore storage remove`", "`chainstore project …`",
		"```sh\nchainstore master … --witness \"$W https://witness.example/w1\" --witness-quorum 1\n```",
		"```sh\nchainstore admin-token revoke $(chainstore admin-token list)\n```",
	} {
		for _, m := range commandsIn(text) {
			if err := checkMentioned(m); err != nil {
				t.Errorf("%q: %v", text, err)
			}
		}
	}
}

// checkMentioned returns an error if a command line cannot be one of this program.
func checkMentioned(m mentioned) error {
	partial := !m.whole
	words := slices.DeleteFunc(slices.Clone(m.words), func(w string) bool {
		left := strings.Contains(w, "…")
		partial = partial || left
		return left
	})
	root := newRootCommand()
	root.InitDefaultHelpCmd()
	root.InitDefaultCompletionCmd()
	cmd, rest, err := root.Find(words)
	if err != nil {
		return err
	}
	cmd.InitDefaultHelpFlag()
	cmd.InitDefaultVersionFlag()
	err = cmd.ParseFlags(rest)
	if err != nil && !(partial && strings.HasPrefix(err.Error(), "flag needs an argument")) {
		return err
	}
	args := cmd.Flags().Args()
	if len(args) > 0 && cmd.HasSubCommands() && !isPlaceholder(args[0]) {
		return fmt.Errorf("%s has no command %q", cmd.CommandPath(), args[0])
	}
	if partial {
		return nil
	}
	return validate(cmd, args)
}

func validate(cmd *cobra.Command, args []string) error {
	if err := cmd.ValidateRequiredFlags(); err != nil {
		return err
	}
	return cmd.ValidateArgs(args)
}

// isPlaceholder reports whether a word stands for another one, such as COMMAND.
func isPlaceholder(word string) bool { return strings.ToUpper(word) == word }

var (
	codeBlock = regexp.MustCompile("(?ms)^ *```([^\n]*)\n(.*?)^ *```[ ]*$")
	codeSpan  = regexp.MustCompile("`([^`]+)`")
	assigned  = regexp.MustCompile(`^\w+=`)
	// label is the label of a format, which is no command.
	label = regexp.MustCompile(`^chainstore [a-z -]+ v\d$`)
)

// commandsIn finds the command lines of the program in a document: in blocks of commands, and in code within text.
func commandsIn(text string) (found []mentioned) {
	for _, block := range codeBlock.FindAllStringSubmatch(text, -1) {
		language, _, _ := strings.Cut(block[1], " ")
		script := block[2]
		switch language {
		case "sh", "", "text":
		case "console":
			script = prompted(script)
		default:
			continue
		}
		for _, words := range shellCommands(script) {
			if words = ofProgram(words); len(words) > 0 {
				found = append(found, mentioned{words, true})
			}
		}
	}
	for _, span := range codeSpan.FindAllStringSubmatch(codeBlock.ReplaceAllString(text, ""), -1) {
		text := strings.Join(strings.Fields(span[1]), " ")
		if label.MatchString(text) {
			continue
		}
		for _, words := range shellCommands(text) {
			if words = ofProgram(words); len(words) > 0 {
				found = append(found, mentioned{words, false})
			}
		}
	}
	return found
}

// prompted returns the lines of a session that are commands, with the lines that continue them.
func prompted(session string) (script string) {
	more := false
	for _, line := range strings.Split(session, "\n") {
		command, first := strings.CutPrefix(strings.TrimSpace(line), "$ ")
		if first || more {
			script += command + "\n"
			more = strings.HasSuffix(command, `\`)
		}
	}
	return script
}

// keywords may be in front of a command.
var keywords = []string{"do", "then", "else", "if", "while", "until", "!", "{", "exec", "sudo", "time"}

// ofProgram returns the words after the name of the program, if a command runs it.
func ofProgram(words []string) []string {
	for len(words) > 0 {
		first := strings.TrimPrefix(words[0], "ExecStart=")
		switch {
		case path.Base(first) == "chainstore" && !strings.HasSuffix(first, "/lib/chainstore"):
			return words[1:]
		case slices.Contains(keywords, first), assigned.MatchString(first):
			words = words[1:]
		case first == "ssh" && len(words) > 2:
			words = words[2:]
		case first == "runuser" && slices.Contains(words, "--"):
			words = words[slices.Index(words, "--")+1:]
		default:
			return nil
		}
	}
	return nil
}

// shellCommands splits a script of the shell into simple commands, those within other commands included. It knows what
// the documents use: quotes, comments, redirections, and commands in parentheses.
func shellCommands(script string) (commands [][]string) {
	s := shellSplitter{rest: strings.ReplaceAll(script, "\\\n", " ")}
	for s.rest != "" {
		s.step()
	}
	s.endCommand()
	return s.commands
}

type shellSplitter struct {
	rest     string
	word     string
	inWord   bool
	skip     bool // the next word is the file of a redirection
	words    []string
	commands [][]string
}

func (s *shellSplitter) endWord() {
	if s.inWord && !s.skip {
		s.words = append(s.words, s.word)
	}
	if s.inWord {
		s.skip = false
	}
	s.word, s.inWord = "", false
}

func (s *shellSplitter) endCommand() {
	s.endWord()
	if len(s.words) > 0 {
		s.commands = append(s.commands, s.words)
	}
	s.words, s.skip = nil, false
}

// within adds the commands of a script that is a part of a word, which stands for a word.
func (s *shellSplitter) within(script string) {
	s.commands = append(s.commands, shellCommands(script)...)
	s.add("x")
}

func (s *shellSplitter) add(text string) { s.word, s.inWord = s.word+text, true }

// step takes one character, or a quoted part.
func (s *shellSplitter) step() {
	c, char := s.rest[0], s.rest[:1]
	switch {
	case strings.HasPrefix(s.rest, "$("):
		inner := s.rest[2:closing(s.rest)]
		s.rest = s.rest[min(len(s.rest), len(inner)+3):]
		s.within(inner)
		return
	case c == '\'':
		inner, after, _ := strings.Cut(s.rest[1:], "'")
		s.rest = after
		if strings.Contains(inner, "chainstore ") {
			s.within(inner)
		} else {
			s.add(inner)
		}
		return
	case c == '"':
		s.quoted()
		return
	case c == '#' && !s.inWord:
		_, after, _ := strings.Cut(s.rest, "\n")
		s.rest = "\n" + after
		return
	}
	s.rest = s.rest[1:]
	switch c {
	case ' ', '\t':
		s.endWord()
	case '\n', ';', '|', '&', '(', ')':
		s.endCommand()
	case '<', '>':
		if s.word == "2" || s.word == "1" {
			s.word, s.inWord = "", false
		}
		s.endWord()
		s.rest = strings.TrimLeft(s.rest, "<>&")
		s.skip = true
	case '\\':
		if s.rest != "" {
			s.add(s.rest[:1])
			s.rest = s.rest[1:]
		}
	default:
		s.add(char)
	}
}

// quoted takes a part in double quotes.
func (s *shellSplitter) quoted() {
	s.rest = s.rest[1:]
	s.inWord = true
	for s.rest != "" && s.rest[0] != '"' {
		switch {
		case strings.HasPrefix(s.rest, "$("):
			inner := s.rest[2:closing(s.rest)]
			s.rest = s.rest[min(len(s.rest), len(inner)+3):]
			s.within(inner)
		case s.rest[0] == '\\' && len(s.rest) > 1:
			s.add(s.rest[1:2])
			s.rest = s.rest[2:]
		default:
			s.add(s.rest[:1])
			s.rest = s.rest[1:]
		}
	}
	s.rest = strings.TrimPrefix(s.rest, `"`)
}

// closing returns the index of the parenthesis that closes the first one.
func closing(text string) int {
	depth := 0
	for i, c := range text {
		switch c {
		case '(':
			depth++
		case ')':
			if depth--; depth == 0 {
				return i
			}
		}
	}
	return len(text)
}
