package cli

import (
	"bufio"
	"errors"
	"io"
	"strings"
)

// Confirm asks a question and reports whether the answer is y or yes, in upper or lower case.
func Confirm(in io.Reader, out io.Writer, question string) (bool, error) {
	answer, err := Ask(in, out, question)
	answer = strings.ToLower(answer)
	return answer == "y" || answer == "yes", err
}

// Ask prints a question and reads one line as the answer.
func Ask(in io.Reader, out io.Writer, question string) (answer string, err error) {
	if _, err := io.WriteString(out, question); err != nil {
		return "", err
	}
	line, err := bufio.NewReader(in).ReadString('\n')
	if err != nil && !errors.Is(err, io.EOF) {
		return "", err
	}
	return strings.TrimSpace(line), nil
}
