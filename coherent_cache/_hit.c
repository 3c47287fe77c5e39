/* A hit, compiled: what the getters of getters.py do where the view's memo has the value.
 *
 * `Property` is the `property` that cached attributes inherit from, with a hit of its own.  Whatever
 * else there is to do, `property` calls the getter in Python, which begins anew: that one is what
 * counts, and nothing here may answer where it would not.
 */

#include <Python.h>

#ifdef Py_GIL_DISABLED
#error "coherent_cache._hit borrows references under the GIL: without one use the pure form"
#endif

/* What an instance has behind the fields of `property`. */
typedef struct {
    Py_ssize_t index; /* in every memo; 0: always call the getter, and the others may be NULL */
    PyObject *memo;   /* the context variable */
    PyObject *name;   /* of the instance's attribute that is the key part; NULL for a singleton */
    PyObject *first;  /* first(instance, part): the memo has another part or none; as name */
} State;

static inline State *
state_of(PyObject *self)
{
    return (State *)((char *)self + PyProperty_Type.tp_basicsize);
}

/* THE FORM OF THE MEMO AND ITS ITEMS stands in these two functions only: a list of dictionaries by
 * instance; an item is the value of a singleton attribute, and (part, value) of a keyed one.
 * `getters.known` and `getters._KEYED` write them. */

/* memo()[index][instance], or NULL with or without an error; *empty* says whether there was such a
 * dictionary and it has no item. */
static inline PyObject *
item_of(State *state, PyObject *instance, int *empty)
{
    PyObject *memo, *items, *item = NULL;
    if (PyContextVar_Get(state->memo, NULL, &memo) < 0 || memo == NULL) {
        return NULL;
    }
    /* The index is missing if the attribute is younger than the view; a dictionary that is a
     * `FirstRead` has more to do. */
    if (PyList_CheckExact(memo) && state->index < PyList_GET_SIZE(memo) &&
        PyDict_CheckExact(items = PyList_GET_ITEM(memo, state->index))) {
        Py_INCREF(items); /* a __hash__ or __eq__ may empty the memo meanwhile */
        item = Py_XNewRef(PyDict_GetItemWithError(items, instance));
        Py_DECREF(items);
        *empty = item == NULL && !PyErr_Occurred();
    }
    Py_DECREF(memo);
    return item;
}

/* The value in *item* if that is of the part *now*, else NULL without an error. */
static inline PyObject *
value_of_part(PyObject *item, PyObject *now)
{
    if (PyTuple_CheckExact(item) && PyTuple_GET_SIZE(item) == 2 &&
        PyTuple_GET_ITEM(item, 0) == now) { /* identical, since 1 == True */
        return Py_NewRef(PyTuple_GET_ITEM(item, 1));
    }
    return NULL;
}

static inline PyObject *
part_of(PyObject *instance, PyObject *name)
{
    /* Without the questions of PyObject_GetAttr(), which are 5 % of a hit on 3.11. */
    getattrofunc get = Py_TYPE(instance)->tp_getattro;
    Py_INCREF(name); /* a property may do anything meanwhile */
    PyObject *part = get != NULL ? get(instance, name) : PyObject_GetAttr(instance, name);
    Py_DECREF(name);
    return part;
}

/* The value, or NULL: with an error, or without one if it is for the getter to find. */
static inline PyObject *
answer(State *state, PyObject *instance)
{
    int empty = 0;
    PyObject *now = NULL, *value = NULL, *item = item_of(state, instance, &empty);
    if (state->name == NULL) {
        value = item;
    }
    else if (item != NULL || empty) {
        now = part_of(instance, state->name);
        if (item != NULL && now != NULL) {
            value = value_of_part(item, now);
        }
        Py_XDECREF(item);
    }
    if (value == NULL) {
        if (now != NULL && state->first != NULL) {
            /* Asked here, so that the part is read once, as by the getter. */
            PyObject *first = Py_NewRef(state->first), *given[] = {instance, now};
            value = PyObject_Vectorcall(first, given, 2, NULL);
            Py_DECREF(first);
        }
        else if (PyErr_Occurred() && PyErr_ExceptionMatches(PyExc_Exception)) {
            PyErr_Clear(); /* the getter meets it again, and knows what to do */
        }
    }
    Py_XDECREF(now);
    return value;
}

static PyObject *
property_get(PyObject *self, PyObject *instance, PyObject *owner)
{
    State *state = state_of(self);
    if (instance != NULL && state->index != 0) {
        PyObject *value = answer(state, instance);
        if (value != NULL || PyErr_Occurred()) {
            return value;
        }
    }
    return PyProperty_Type.tp_descr_get(self, instance, owner);
}

static PyObject *
property_answer_from(PyObject *self, PyObject *args)
{
    PyObject *memo, *name = NULL, *first = NULL;
    Py_ssize_t index;
    if (!PyArg_ParseTuple(args, "O!n|UO", &PyContextVar_Type, &memo, &index, &name, &first)) {
        return NULL;
    }
    if (index < 1 || (name == NULL) != (first == NULL)) {
        PyErr_SetString(PyExc_ValueError, "an index from 1 on, and a name and first or neither");
        return NULL;
    }
    State *state = state_of(self);
    state->index = 0;
    Py_XSETREF(state->memo, Py_NewRef(memo));
    Py_XSETREF(state->first, Py_XNewRef(first));
    Py_XSETREF(state->name, Py_XNewRef(name));
    if (name != NULL) {
        PyUnicode_InternInPlace(&state->name);
    }
    state->index = index;
    Py_RETURN_NONE;
}

static int
property_traverse(PyObject *self, visitproc visit, void *arg)
{
    Py_VISIT(Py_TYPE(self));
    Py_VISIT(state_of(self)->memo);
    Py_VISIT(state_of(self)->first);
    return PyProperty_Type.tp_traverse(self, visit, arg);
}

static int
property_clear(PyObject *self)
{
    State *state = state_of(self);
    state->index = 0;
    Py_CLEAR(state->memo);
    Py_CLEAR(state->name);
    Py_CLEAR(state->first);
    return PyProperty_Type.tp_clear == NULL ? 0 : PyProperty_Type.tp_clear(self);
}

static void
property_dealloc(PyObject *self)
{
    PyTypeObject *type = Py_TYPE(self);
    PyObject_GC_UnTrack(self); /* what is cleared may start a collection */
    property_clear(self);
    PyObject_GC_Track(self); /* as `property` expects it */
    PyProperty_Type.tp_dealloc(self);
    Py_DECREF(type);
}

static PyMethodDef property_methods[] = {
    {"_answer_from", property_answer_from, METH_VARARGS,
     PyDoc_STR("_answer_from(memo, index[, name, first]): where its hits are.")},
    {NULL},
};

static PyType_Slot property_slots[] = {
    {Py_tp_descr_get, property_get},   {Py_tp_methods, property_methods},
    {Py_tp_traverse, property_traverse}, {Py_tp_clear, property_clear},
    {Py_tp_dealloc, property_dealloc}, {0, NULL},
};

static int
module_exec(PyObject *module)
{
    PyType_Spec spec = {
        .name = "coherent_cache._hit.Property",
        .basicsize = (int)(PyProperty_Type.tp_basicsize + sizeof(State)),
        .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE | Py_TPFLAGS_HAVE_GC,
        .slots = property_slots,
    };
    PyObject *type = PyType_FromModuleAndSpec(module, &spec, (PyObject *)&PyProperty_Type);
    int failed = type == NULL || PyModule_AddObjectRef(module, "Property", type) < 0;
    Py_XDECREF(type);
    return failed ? -1 : 0;
}

static PyModuleDef_Slot module_slots[] = {
    {Py_mod_exec, module_exec},
#if PY_VERSION_HEX >= 0x030C0000
    {Py_mod_multiple_interpreters, Py_MOD_PER_INTERPRETER_GIL_SUPPORTED},
#endif
    {0, NULL},
};

static struct PyModuleDef module_definition = {
    PyModuleDef_HEAD_INIT,
    .m_name = "coherent_cache._hit",
    .m_slots = module_slots,
};

PyMODINIT_FUNC
PyInit__hit(void)
{
    return PyModuleDef_Init(&module_definition);
}
