package harbortest

import "slices"

// table keeps rows by id, in the order of their ids, and by a name that only
// one of them has. The zero value is empty.
type table[T any] struct {
	rows  map[int64]*T
	names map[string]int64
	order []int64
}

// put adds a row, or takes its place.
func (t *table[T]) put(id int64, name string, row *T) {
	if t.rows == nil {
		t.rows, t.names = map[int64]*T{}, map[string]int64{}
	}
	if _, known := t.rows[id]; !known {
		at, _ := slices.BinarySearch(t.order, id)
		t.order = slices.Insert(t.order, at, id)
	}
	t.rows[id] = row
	t.names[name] = id
}

// rename says that a row is now known by another name.
func (t *table[T]) rename(id int64, from, to string) {
	if t.names[from] == id {
		delete(t.names, from)
	}
	t.names[to] = id
}

// remove takes a row out.
func (t *table[T]) remove(id int64, name string) {
	if at, known := slices.BinarySearch(t.order, id); known {
		t.order = slices.Delete(t.order, at, at+1)
		delete(t.rows, id)
	}
	if t.names[name] == id {
		delete(t.names, name)
	}
}

// get is the row with an id, or nil.
func (t *table[T]) get(id int64) *T { return t.rows[id] }

// named is the row with a name, or nil.
func (t *table[T]) named(name string) *T {
	id, known := t.names[name]
	if !known {
		return nil
	}
	return t.rows[id]
}

// all are the rows by id.
func (t *table[T]) all() []*T {
	rows := make([]*T, 0, len(t.order))
	for _, id := range t.order {
		rows = append(rows, t.rows[id])
	}
	return rows
}
