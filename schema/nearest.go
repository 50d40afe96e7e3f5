package schema

import "strings"

// maxLooks is how many words one run compares to find those that were meant.
// Who misspells a few names is told what was meant; who misspells thousands is
// not, and waits for nothing.
const maxLooks = 20_000

// Nearest finds what was meant by misspelt words. The zero value is ready; it is
// for one run and one goroutine.
type Nearest struct {
	looked int
	rows   [3][maxWord + 1]int
}

// maxWord is the longest word, in bytes, that is compared.
const maxWord = 64

// Of returns the candidate nearest to a misspelt word, or "".
func (n *Nearest) Of(word string, candidates []string) string {
	best, dist := "", max(2, len(word)/3)+1
	word = strings.ToLower(word)
	for _, c := range candidates {
		if n.looked >= maxLooks {
			break
		}
		if d := len(c) - len(word); d >= dist || -d >= dist || len(c) > maxWord || len(word) > maxWord {
			continue
		}
		n.looked++
		if d := n.distance(word, strings.ToLower(c)); d < dist {
			best, dist = c, d
		}
	}
	return best
}

// distance is Levenshtein's, with swapped neighbours counted once.
func (n *Nearest) distance(a, b string) int {
	if len(a) > maxWord || len(b) > maxWord { // lower case may be longer
		return maxWord
	}
	before, row, next := &n.rows[0], &n.rows[1], &n.rows[2]
	for j := range len(b) + 1 {
		row[j] = j
	}
	for i := 1; i <= len(a); i++ {
		next[0] = i
		for j := 1; j <= len(b); j++ {
			cost := 1
			if a[i-1] == b[j-1] {
				cost = 0
			}
			next[j] = min(row[j]+1, next[j-1]+1, row[j-1]+cost)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				next[j] = min(next[j], before[j-2]+1)
			}
		}
		before, row, next = row, next, before
	}
	return row[len(b)]
}
