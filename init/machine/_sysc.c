/*
 * _sysc: raw system calls for a program that cannot load ctypes.
 *
 *     syscall(number, *args) -> int
 *
 * Up to six arguments.  An int is passed as the machine word it is (negative ones in two's complement), None as a
 * null pointer, and an object with the buffer protocol as the address of its bytes: the kernel may write into it if
 * it is writable, and nobody checks that it is long enough.  bytes end in a NUL of CPython's, so they serve as C
 * strings.  The GIL is released during the call.  Raises OSError with the kernel's errno.
 */
#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include <errno.h>
#include <unistd.h>

enum { MAX_WORDS = 7 }; /* the number and six arguments: what the Linux ABI has registers for */

struct call {
    long word[MAX_WORDS];
    Py_buffer buffer[MAX_WORDS];
    int buffers;
};

static int add_word(struct call *call, Py_ssize_t index, PyObject *value)
{
    if (value == Py_None)
        return 0;
    if (PyLong_Check(value)) {
        int overflow;
        long long wide = PyLong_AsLongLongAndOverflow(value, &overflow);
        if (overflow > 0) { /* addresses and flags above 2^63 */
            unsigned long top = PyLong_AsUnsignedLong(value);
            if (PyErr_Occurred())
                return -1;
            call->word[index] = (long)top;
            return 0;
        }
        if (overflow < 0) {
            PyErr_SetString(PyExc_OverflowError, "argument does not fit into a machine word");
            return -1;
        }
        call->word[index] = (long)wide;
        return 0;
    }
    Py_buffer *view = &call->buffer[call->buffers];
    if (PyObject_GetBuffer(value, view, PyBUF_SIMPLE) < 0)
        return -1;
    call->buffers++;
    call->word[index] = (long)view->buf;
    return 0;
}

static PyObject *sysc_syscall(PyObject *module, PyObject *const *args, Py_ssize_t count)
{
    struct call call = {.buffers = 0};
    PyObject *result = NULL;

    (void)module;
    if (count < 1 || count > MAX_WORDS) {
        PyErr_SetString(PyExc_TypeError, "syscall() takes a number and up to six arguments");
        return NULL;
    }
    for (Py_ssize_t i = 0; i < count; i++)
        if (add_word(&call, i, args[i]) < 0)
            goto out;

    const long *w = call.word;
    long status;
    int error;
    Py_BEGIN_ALLOW_THREADS
    status = syscall(w[0], w[1], w[2], w[3], w[4], w[5], w[6]);
    error = errno;
    Py_END_ALLOW_THREADS
    if (status == -1) {
        errno = error;
        PyErr_SetFromErrno(PyExc_OSError);
    } else {
        result = PyLong_FromLong(status);
    }
out:
    while (call.buffers > 0)
        PyBuffer_Release(&call.buffer[--call.buffers]);
    return result;
}

static PyMethodDef methods[] = {
    {"syscall", (PyCFunction)(void (*)(void))sysc_syscall, METH_FASTCALL,
     "syscall(number, *args) -> int; raises OSError"},
    {NULL, NULL, 0, NULL},
};

static struct PyModuleDef definition = {
    PyModuleDef_HEAD_INIT,
    .m_name = "_sysc",
    .m_doc = "Raw system calls.",
    .m_methods = methods,
};

PyMODINIT_FUNC PyInit__sysc(void)
{
    return PyModuleDef_Init(&definition);
}
